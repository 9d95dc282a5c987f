"""Store reviewers' decisions, the review priority of answers, and category proposals."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import Category, ModelVersion


class Reason(models.TextChoices):
    """The reason for an answer's place in the review queue."""

    LABEL_ERROR = "label error", _("The models contradict the seller")
    DISAGREEMENT = "disagreement", _("The models contradict each other")
    DOUBT = "doubt", _("Low confidence")
    UNUSUAL = "unusual", _("Unlike other products")
    RANDOM = "random", _("Random share")


class ReviewQueueEntry(models.Model):
    """An answer's review priority, and copies of what the queue is filtered by, as `feedback.review.queue` sets them.

    The fields are empty until an answer was ranked. The copies let the queue read an index instead of the predictions.
    """

    worth = models.FloatField(
        _("review priority"),
        null=True,
        editable=False,
        help_text=_("Review priority from 0 to 1; the highest is reviewed first."),
    )
    reason = models.CharField(_("why"), max_length=12, choices=Reason, blank=True, editable=False)
    inclusion_probability = models.FloatField(
        _("inclusion probability"),
        null=True,
        editable=False,
        db_column="inclusion",
        help_text=_(
            "The probability of being drawn for the random share; empty for answers that were chosen for a reason."
        ),
    )
    language = models.CharField(_("language"), max_length=8, blank=True, editable=False)
    confidence = models.FloatField(_("confidence"), null=True, editable=False)
    disagreement = models.FloatField(
        _("disagreement"),
        null=True,
        editable=False,
        help_text=_("Jensen-Shannon divergence between the two models, in bits."),
    )
    text_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, editable=False, related_name="+", verbose_name=_("text model"),
        db_index=False,
    )  # fmt: skip
    image_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, editable=False, related_name="+", verbose_name=_("image model"),
        db_index=False,
    )  # fmt: skip
    second_wanted = models.BooleanField(_("wants a second reviewer"), default=False, editable=False)

    class Meta:
        abstract = True


class ReviewQuerySet(models.QuerySet["Review"]):
    """Select decisions."""

    def standing(self) -> "ReviewQuerySet":
        """Select decisions that were not undone."""
        return self.filter(undone_at=None)

    def second_opinions(self) -> "ReviewQuerySet":
        """Select second opinions together with the first ones, neither of them undone, the newest first."""
        return (
            self.standing().filter(first__isnull=False, first__undone_at=None).select_related("first").order_by("-pk")
        )


class Review(models.Model):
    """One decision of a reviewer about an answer as it was then; kept permanently, also when it was undone.

    `Feedback.review` holds the newest one that was not undone and that is about the seller's current answer.
    """

    class Verdict(models.TextChoices):
        """What the reviewer decided."""

        ACCEPT = "accept", _("Accepted")
        CORRECT = "correct", _("Corrected")
        REJECT = "reject", _("Rejected")
        NONE = "none", _("Fits no category")
        FLAG = "flag", _("Set aside as suspicious")

    feedback = models.ForeignKey("feedback.Feedback", models.CASCADE, related_name="reviews", verbose_name=_("answer"))
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("reviewer"),
        db_index=False,
    )  # fmt: skip
    verdict = models.CharField(_("decision"), max_length=7, choices=Verdict)
    category = models.ForeignKey(
        Category, models.PROTECT, null=True, related_name="+", verbose_name=_("category"),
        help_text=_("The right category, if the seller's answer was corrected."),
    )  # fmt: skip
    is_blind = models.BooleanField(
        _("blind"), default=False, help_text=_("The reviewer saw neither the seller's answer nor the suggestions.")
    )
    first = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+", verbose_name=_("second opinion on"))
    answer = models.JSONField(_("the answer as it was"))
    answered_at = models.DateTimeField(_("when it was given"))
    undone_at = models.DateTimeField(_("undone"), null=True)
    created_at = models.DateTimeField(_("when"), default=timezone.now)

    objects = ReviewQuerySet.as_manager()

    class Meta:
        verbose_name = _("review")
        verbose_name_plural = _("reviews")
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["-id"], name="review_second", condition=Q(first__isnull=False)),
            models.Index(fields=["reviewer", "-created_at"], name="review_of_reviewer"),
            models.Index(fields=["undone_at"], name="review_undone", condition=Q(undone_at__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(
                name="only_a_correction_names_a_category",
                condition=Q(verdict="correct", category__isnull=False) | (~Q(verdict="correct") & Q(category=None)),
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_verdict_display()}: {self.category}" if self.category_id else self.get_verdict_display()

    @property
    def label(self) -> str:
        """The category by this decision, for comparing reviewers: a slug, "none" or "unusable"."""
        if self.verdict == self.Verdict.CORRECT and self.category:
            return self.category.slug
        if self.verdict == self.Verdict.NONE:
            return "none"
        return str(self.answer["category"] or "none") if self.verdict == self.Verdict.ACCEPT else "unusable"


class CategoryProposal(models.Model):
    """A group of similar products that fit no category, which may need a new one."""

    class State(models.TextChoices):
        """Whether a reviewer decided about it."""

        OPEN = "open", _("Open")
        ACCEPTED = "accepted", _("Accepted")
        REJECTED = "rejected", _("Rejected")

    words = ArrayField(models.CharField(max_length=80), verbose_name=_("typical words"))
    answers = models.ManyToManyField("feedback.Feedback", related_name="proposals", verbose_name=_("answers"))
    size = models.PositiveIntegerField(_("answers"))
    version = models.ForeignKey(
        ModelVersion,
        models.CASCADE,
        related_name="+",
        verbose_name=_("text model"),
        help_text=_("The version whose embeddings were grouped."),
    )
    centre = ArrayField(models.FloatField(), editable=False)
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.OPEN)
    category = models.ForeignKey(
        Category,
        models.PROTECT,
        null=True,
        related_name="+",
        verbose_name=_("category"),
        help_text=_("The category that was created."),
    )
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("decided by")
    )
    decided_at = models.DateTimeField(_("decided"), null=True)
    created_at = models.DateTimeField(_("found"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("proposed category")
        verbose_name_plural = _("proposed categories")
        ordering = ["-size", "-pk"]

    def __str__(self) -> str:
        return ", ".join(self.words)
