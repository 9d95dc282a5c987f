"""Store fraud cases, their evidence and history, and the totals that fraud detection works with."""

from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import Prediction
from common.leases import Leasable

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


class FraudTally(models.Model):
    """The totals of all sellers' answers: one row, updated by `feedback.fraud_cases.seller_totals`.

    `arrays` is a `feedback.statistics.fraud.SellerTotals` as a compressed .npz. Its numbers of categories and versions
    are positions in the lists `categories` (slugs) and `versions` (pairs of text and image version). `cleared` is when
    each seller's latest case was cleared, in seconds since 1970; answers up to then are not in the totals.
    """

    THE_ONE = 1

    arrays = models.BinaryField(default=bytes)
    categories = models.JSONField(default=list)
    versions = models.JSONField(default=list)
    cleared = models.JSONField(default=dict)
    until = models.DateTimeField(_("answers up to"), null=True)
    revision = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"answers up to {self.until:%Y-%m-%d %H:%M}" if self.until else "no answers"


class CaseQuerySet(models.QuerySet["Case"]):
    def standing(self) -> Self:
        """Return the open and the confirmed cases, which keep a seller's answers out of training."""
        return self.filter(state__in=[Case.State.OPEN, Case.State.CONFIRMED])

    def appealed(self) -> Self:
        """Return the cases with an appeal that no one has answered."""
        return self.filter(state=Case.State.CONFIRMED, appealed_at__gt=F("decided_at"))

    def shown_to(self, seller: "AbstractBaseUser") -> Self:
        """Return the cases that were ever confirmed, which the seller has seen, including those cleared later."""
        confirmed = CaseEvent.objects.filter(case=OuterRef("pk"), action=CaseEvent.Action.CONFIRMED)
        return self.filter(Exists(confirmed), seller=seller)

    def appealable(self, seller: "AbstractBaseUser") -> Self:
        """Return the seller's confirmed case, to which they may write a note."""
        return self.filter(seller=seller, state=Case.State.CONFIRMED)


class Case(Leasable):
    """A seller whose answers look intentionally wrong, with the evidence and a person's verdict.

    A case blocks nothing: it keeps the seller's answers out of training until it is cleared. `figures` are the fields
    of a `feedback.statistics.fraud.SellerFinding` when the case was opened; `favourite` is a category's slug.
    """

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        CONFIRMED = "confirmed", _("Confirmed")
        CLEARED = "cleared", _("Cleared")

    seller = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="fraud_cases", verbose_name=_("seller")
    )
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.OPEN)
    favourite = models.CharField(_("favoured category"), max_length=80)
    figures = models.JSONField(_("figures"))
    reasons = models.JSONField(_("reasons"), default=list)
    timeline = models.JSONField(
        _("timeline"), default=list, help_text=_("Seconds since 1970, products that speak against the seller, allowed.")
    )
    opened_at = models.DateTimeField(_("opened"), default=timezone.now, editable=False)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("decided by")
    )
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    appeal = models.TextField(_("appeal"), blank=True)
    appealed_at = models.DateTimeField(_("appealed"), null=True, blank=True)
    notified_at = models.DateTimeField(_("data scientists notified"), null=True, editable=False)
    appeal_notified_at = models.DateTimeField(_("data scientists notified of the appeal"), null=True, editable=False)

    objects = CaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("fraud case")
        verbose_name_plural = _("fraud cases")
        ordering = ["-opened_at"]
        permissions = [("judge_case", "Can confirm and clear fraud cases")]
        indexes = [
            models.Index(fields=["-opened_at"], name="case_newest"),
            models.Index(fields=["state", "-opened_at"], name="case_by_state"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["seller"], condition=Q(state__in=["open", "confirmed"]), name="one_standing_case_per_seller"
            ),
            models.CheckConstraint(
                condition=Q(state="open") | (Q(decided_at__isnull=False) & ~Q(reason="")),
                name="a_decided_case_has_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.seller}, {self.opened_at:%Y-%m-%d}"

    @property
    def is_decided(self) -> bool:
        return self.state != self.State.OPEN

    @property
    def is_appealed(self) -> bool:
        """Whether the case has an appeal that no one has answered."""
        is_confirmed = self.state == self.State.CONFIRMED
        return bool(is_confirmed and self.appealed_at and self.decided_at and self.appealed_at > self.decided_at)


class CaseProduct(models.Model):
    """A product that is evidence against the seller, with the models' probabilities when the case was opened.

    Probabilities are those of the chosen category, empty where a model gave none; `usual` is the geometric mean of
    those that other sellers' choices have in the same situation. `text_hash` is that of
    `feedback.statistics.duplicates` as a signed number, empty for too few words; the photo's hash is on the prediction.
    """

    case = models.ForeignKey(Case, models.CASCADE, related_name="products")
    prediction = models.ForeignKey(Prediction, models.CASCADE, related_name="+", verbose_name=_("prediction"))
    predicted = models.CharField(_("models' category"), max_length=80)
    chosen = models.CharField(_("chosen category"), max_length=80)
    confidence = models.FloatField(_("confidence"))
    text = models.FloatField(_("text model"), null=True)
    image = models.FloatField(_("image model"), null=True)
    ensemble = models.FloatField(_("both"), null=True)
    usual = models.FloatField(_("usual"))
    answered_at = models.DateTimeField(_("answered"))
    text_hash = models.BigIntegerField(null=True, editable=False)

    class Meta:
        verbose_name = _("product of a case")
        verbose_name_plural = _("products of cases")
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.chosen} for {self.predicted}"


class CaseEvent(models.Model):
    """One step in the history of a case."""

    class Action(models.TextChoices):
        OPENED = "opened", _("Opened")
        CONFIRMED = "confirmed", _("Confirmed")
        CLEARED = "cleared", _("Cleared")
        APPEALED = "appealed", _("Appealed")

    case = models.ForeignKey(Case, models.CASCADE, related_name="events")
    action = models.CharField(_("action"), max_length=9, choices=Action)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("by"),
        help_text=_("Empty: Aisle itself."),
    )  # fmt: skip
    note = models.TextField(_("note"), blank=True)
    at = models.DateTimeField(_("when"), default=timezone.now)

    class Meta:
        verbose_name = _("event of a case")
        verbose_name_plural = _("events of cases")
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.get_action_display()} {self.at:%Y-%m-%d %H:%M}"
