import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import Category, Prediction

if TYPE_CHECKING:
    pass


class FeedbackQuerySet(models.QuerySet["Feedback"]):
    def claim_unarchived(self, *, limit: int, retry_after: timedelta) -> "list[Feedback]":
        """Return answers that are not archived; other callers see them only after `retry_after`."""
        due = self.filter(archived_at=None, archive_due_at__lte=Now())
        with transaction.atomic():
            locked = due.order_by("archive_due_at").select_for_update(skip_locked=True, of=("self",))
            ids = list(locked.values_list("pk", flat=True)[:limit])
            self.filter(pk__in=ids).update(archive_due_at=Now() + retry_after)
        return list(self.filter(pk__in=ids).select_related("category"))


class Feedback(models.Model):
    """A seller's answer to "Did you find the predictions accurate?"."""

    class Verdict(models.TextChoices):
        TOP5 = "top5", _("One of the five")
        OTHER = "other", _("Another category")
        NONE = "none", _("None of the categories fits")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    prediction = models.OneToOneField(Prediction, models.CASCADE, related_name="feedback", verbose_name=_("prediction"))
    seller = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="feedback", verbose_name=_("seller")
    )
    verdict = models.CharField(_("verdict"), max_length=5, choices=Verdict)
    category = models.ForeignKey(Category, models.PROTECT, null=True, blank=True, verbose_name=_("chosen category"))
    rank = models.PositiveSmallIntegerField(_("rank among the five"), null=True, blank=True)
    wish = models.CharField(_("wished category"), max_length=200, blank=True)
    earlier = models.JSONField(_("earlier answers"), default=list, blank=True)
    created_at = models.DateTimeField(_("first answered"), default=timezone.now, editable=False)
    answered_at = models.DateTimeField(_("answered"), default=timezone.now, editable=False)
    archived_at = models.DateTimeField(_("archived"), null=True, editable=False)
    archive_due_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = FeedbackQuerySet.as_manager()

    class Meta:
        verbose_name = _("feedback")
        verbose_name_plural = _("feedback")
        ordering = ["-answered_at"]
        indexes = [
            models.Index(fields=["-answered_at"], name="feedback_newest"),
            models.Index(fields=["archive_due_at"], name="feedback_unarchived", condition=Q(archived_at=None)),
        ]
        constraints = [
            models.CheckConstraint(
                name="feedback_says_what_its_verdict_says",
                condition=Q(verdict="top5", category__isnull=False, rank__range=(1, 5))
                | Q(verdict="other", category__isnull=False, rank=None)
                | Q(verdict="none", category=None, rank=None),
            )
        ]

    def __str__(self) -> str:
        return str(self.category or self.get_verdict_display())

    def answer(self) -> dict[str, Any]:
        """The answer as the archive keeps it."""
        return {
            "verdict": self.verdict,
            "category": self.category.slug if self.category else None,
            "rank": self.rank,
            "wish": self.wish,
            "answered_at": self.answered_at.isoformat(),
        }
