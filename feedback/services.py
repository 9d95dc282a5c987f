from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Category, Prediction
from feedback.models import Feedback
from feedback.tasks import archive_feedback

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


class NotAnswerable(Exception):
    """The prediction has no result yet that a seller could judge."""


@transaction.atomic
def record_feedback(*, prediction: Prediction, category: Category | None, wish: str = "") -> Feedback:
    """Keep the seller's answer: a category, or None for "none of these fits" with an optional wish.

    A second answer replaces the first, which stays in `earlier`. Raises NotAnswerable before the result is there.
    """
    if prediction.state != Prediction.State.DONE:
        raise NotAnswerable(_("This product has no suggestions yet."))
    # The prediction's row is the lock: two answers at once come one after the other.
    Prediction.objects.select_for_update(of=("self",)).only("pk").get(pk=prediction.pk)
    rank = _rank(prediction, category)
    answer: dict[str, Any] = {
        "verdict": _verdict(category, rank),
        "category": category,
        "rank": rank,
        "wish": "" if category else wish.strip()[:200],
    }
    feedback = Feedback.objects.filter(prediction=prediction).first()
    if feedback is None:
        feedback = Feedback.objects.create(prediction=prediction, seller_id=prediction.seller_id, **answer)
    elif any(getattr(feedback, name) != value for name, value in answer.items()):
        feedback.earlier = [*feedback.earlier, feedback.answer()]
        for name, value in answer.items():
            setattr(feedback, name, value)
        feedback.answered_at = timezone.now()
        # Whoever reviewed it saw another answer.
        feedback.review, feedback.reviewed_by, feedback.reviewed_at = Feedback.Review.OPEN, None, None
        feedback.needs_archiving()
        review = ["review", "reviewed_by", "reviewed_at"]
        feedback.save(update_fields=[*answer, *review, "earlier", "answered_at", "archived_at", "archive_due_at"])
    transaction.on_commit(archive_feedback.delay, robust=True)  # beat asks again for what is left
    return feedback


def review_feedback(
    *, ids: Sequence[UUID], review: Feedback.Review, reviewer: "AbstractBaseUser", seen: datetime | None = None
) -> int:
    """Accept answers, so that models learn from them, or keep them out; return how many changed.

    Answers given after `seen`, when the reviewer's page was made (default: now), stay as they are. What was accepted
    and isn't any more leaves the examples with the next dataset.
    """
    rows = Feedback.objects.filter(pk__in=ids, answered_at__lte=seen or timezone.now()).exclude(review=review)
    return rows.update(review=review, reviewed_by=reviewer, reviewed_at=timezone.now())


def _rank(prediction: Prediction, category: Category | None) -> int | None:
    slugs = [row["slug"] for row in prediction.top5 or []]
    return slugs.index(category.slug) + 1 if category and category.slug in slugs else None


def _verdict(category: Category | None, rank: int | None) -> Feedback.Verdict:
    if category is None:
        return Feedback.Verdict.NONE
    return Feedback.Verdict.TOP5 if rank else Feedback.Verdict.OTHER
