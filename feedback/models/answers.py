"""Store sellers' answers to suggestions."""

import uuid
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, When
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from classifier.models import VECTORS, Category, Prediction
from classifier.models.archivable import Archivable, ArchivableQuerySet
from feedback.models.cases import Case as FraudCase
from feedback.models.reviews import ReviewQueueEntry

PREDICTIONS_VECTORS = tuple(f"prediction__{name}" for name in VECTORS)  # long and rarely read: defer them
OPEN = Q(review="open")
TRUSTED = ("accepted", "corrected")
NO_CATEGORY = "homeless"  # the stored value keeps its older name
MEASURED = (*TRUSTED, NO_CATEGORY)  # reviewed answers that models are measured by
QUEUES: dict[str, list[str]] = {
    "": [],
    "_category": ["category"],
    "_seller": ["seller"],
    "_language": ["language"],
    "_text": ["text_version"],
    "_image": ["image_version"],
}


def _final(field: str) -> Case:
    known = Coalesce(f"correction__{field}", f"category__{field}")
    return Case(When(~Q(review=NO_CATEGORY), then=known), default=None)


class FeedbackQuerySet(ArchivableQuerySet["Feedback"]):
    """Select sellers' answers."""

    def trusted(self) -> Self:
        """Select what models may learn from: answers that a reviewer accepted or corrected, with their `final_id`.

        Answers of sellers with a fraud case that is not cleared are left out.
        """
        return self.with_final().filter(review__in=TRUSTED, final_id__isnull=False).exclude(self._doubted())

    def doubted(self) -> Self:
        """Select what would be trusted if its seller had no fraud case."""
        return self.with_final().filter(self._doubted(), review__in=TRUSTED, final_id__isnull=False)

    @staticmethod
    def _doubted() -> Exists:
        return Exists(FraudCase.objects.standing().filter(seller=OuterRef("seller")))

    def with_final(self) -> Self:
        """Annotate the `final_id` and `final_slug` of the final category: the reviewer's, or else the seller's.

        They are None where the seller chose "none of these" or the reviewer decided that no category fits.
        """
        return self.annotate(final_id=_final("id"), final_slug=_final("slug"))

    def without_category(self) -> Self:
        """Select what fits no category, by a reviewer or by a seller whom no reviewer contradicts."""
        return self.filter(Q(category=None, review__in=["open", "accepted"]) | Q(review=NO_CATEGORY))

    def unreviewed(self) -> Self:
        """Select answers that wait for a review."""
        return self.filter(review=Feedback.Review.OPEN)

    def in_queue_order(self) -> Self:
        """Order by review priority, highest first; answers without one come last."""
        return self.order_by(F("worth").desc(nulls_last=True), "pk")


class Feedback(Archivable, ReviewQueueEntry):
    """A seller's answer to the suggestions for a product, and what a reviewer decided about it."""

    class Verdict(models.TextChoices):
        """Which kind of answer it is."""

        TOP5 = "top5", _("One of the five")
        OTHER = "other", _("Another category")
        NONE = "none", _("None of the categories fits")

    class Review(models.TextChoices):
        """The decision that applies."""

        OPEN = "open", _("Not reviewed")
        ACCEPTED = "accepted", _("Accepted")
        CORRECTED = "corrected", _("Corrected")
        REJECTED = "rejected", _("Rejected")
        NO_CATEGORY = "homeless", _("Fits no category")
        FLAGGED = "flagged", _("Set aside as suspicious")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    prediction = models.OneToOneField(Prediction, models.CASCADE, related_name="feedback", verbose_name=_("prediction"))
    seller = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="feedback", verbose_name=_("seller")
    )
    verdict = models.CharField(_("verdict"), max_length=5, choices=Verdict)
    category = models.ForeignKey(Category, models.PROTECT, null=True, blank=True, verbose_name=_("chosen category"))
    rank = models.PositiveSmallIntegerField(_("rank among the five"), null=True, blank=True)
    wish = models.CharField(_("requested category"), max_length=200, blank=True)
    earlier = models.JSONField(_("earlier answers"), default=list, blank=True)
    review = models.CharField(_("review"), max_length=9, choices=Review, default=Review.OPEN)
    correction = models.ForeignKey(
        Category, models.PROTECT, null=True, blank=True, related_name="+", verbose_name=_("corrected to"),
        help_text=_("The category that models learn if a reviewer corrected the answer."),
    )  # fmt: skip
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
            models.Index(fields=["seller", "-answered_at"], name="feedback_of_seller"),
            # The queue, and the queue by what it is most often filtered by, each in its order.
            *(
                models.Index(
                    *map(F, fields),
                    F("worth").desc(nulls_last=True),
                    "id",
                    name=f"feedback_queue{name}",
                    condition=OPEN,
                )
                for name, fields in QUEUES.items()
            ),
            models.Index(fields=["answered_at"], name="feedback_unplaced", condition=OPEN & Q(worth=None)),
            models.Index(fields=["reviewed_at"], name="feedback_second", condition=Q(second_wanted=True)),
            models.Index(fields=["-reviewed_at"], name="feedback_reviewed", condition=Q(reviewed_at__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(
                name="feedback_says_what_its_verdict_says",
                condition=Q(verdict="top5", category__isnull=False, rank__range=(1, 5))
                | Q(verdict="other", category__isnull=False, rank=None)
                | Q(verdict="none", category=None, rank=None),
            ),
            models.CheckConstraint(
                name="only_a_corrected_answer_has_a_correction",
                condition=Q(review="corrected", correction__isnull=False)
                | (~Q(review="corrected") & Q(correction=None)),
            ),
        ]

    def __str__(self) -> str:
        return str(self.category or self.get_verdict_display())

    @property
    def final(self) -> Category | None:
        """The final category: the reviewer's, or else the seller's; None where no category fits."""
        return None if self.review == NO_CATEGORY else self.correction or self.category

    def answer(self) -> dict[str, Any]:
        """Return the answer as the archive stores it."""
        return {
            "verdict": self.verdict,
            "category": self.category.slug if self.category else None,
            "rank": self.rank,
            "wish": self.wish,
            "answered_at": self.answered_at.isoformat(),
        }
