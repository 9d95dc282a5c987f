import uuid
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.archivable import Archivable, ArchivableQuerySet
from classifier.models import Category, Prediction


class FeedbackQuerySet(ArchivableQuerySet["Feedback"]):
    def trusted(self) -> Self:
        """What models may learn from: answers that name a category and that a reviewer accepted."""
        return self.filter(review=Feedback.Review.ACCEPTED, category__isnull=False)


class Feedback(Archivable):
    """A seller's answer to "Did you find the predictions accurate?"."""

    class Verdict(models.TextChoices):
        TOP5 = "top5", _("One of the five")
        OTHER = "other", _("Another category")
        NONE = "none", _("None of the categories fits")

    class Review(models.TextChoices):
        OPEN = "open", _("Not reviewed")
        ACCEPTED = "accepted", _("Accepted")
        REJECTED = "rejected", _("Rejected")
        FLAGGED = "flagged", _("Set aside as suspicious")

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
    review = models.CharField(_("review"), max_length=8, choices=Review, default=Review.OPEN)
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("reviewer")
    )
    reviewed_at = models.DateTimeField(_("reviewed"), null=True, blank=True)
    created_at = models.DateTimeField(_("first answered"), default=timezone.now, editable=False)
    answered_at = models.DateTimeField(_("answered"), default=timezone.now, editable=False)

    objects = FeedbackQuerySet.as_manager()

    class Meta:
        verbose_name = _("feedback")
        verbose_name_plural = _("feedback")
        ordering = ["-answered_at"]
        permissions = [("review_feedback", "Can review feedback")]
        indexes = [
            models.Index(fields=["-answered_at"], name="feedback_newest"),
            models.Index(fields=["archive_due_at"], name="feedback_unarchived", condition=Q(archived_at=None)),
            models.Index(fields=["seller", "prediction"], name="feedback_none_fits", condition=Q(category=None)),
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
