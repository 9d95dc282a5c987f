"""Record sellers' answers."""

from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Category, Prediction
from feedback.models import Feedback
from feedback.review.decisions import reopen_answer, review_feedback
from feedback.tasks import archive_feedback

__all__ = ["NotAnswerable", "record_feedback", "review_feedback"]


class NotAnswerable(Exception):
    """The prediction has no result yet to answer."""


@transaction.atomic
def record_feedback(*, prediction: Prediction, category: Category | None, wish: str = "") -> Feedback:
    """Store the seller's answer: a category, or None for "none of these" with an optional requested category.

    A second answer replaces the first, which is kept in `earlier`. Raises NotAnswerable before there is a result.
    """
    if prediction.state != Prediction.State.DONE:
        raise NotAnswerable(_("This product has no suggestions yet."))
    category = category and category.current
    # The prediction's row serves as a lock: without it two simultaneous answers would both create a row.
    Prediction.objects.select_for_update(of=("self",)).only("pk").get(pk=prediction.pk)
    rank = _rank_of(prediction, category)
    answer: dict[str, Any] = {
        "verdict": _verdict_of(category, rank),
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
        # The reviewer decided about another answer.
        reopened = reopen_answer(feedback)
        feedback.needs_archiving()
        feedback.save(update_fields=[*answer, *reopened, "earlier", "answered_at", "archived_at", "archive_due_at"])
    transaction.on_commit(archive_feedback.delay, robust=True)  # the schedule repeats it for what is left
    return feedback


def _rank_of(prediction: Prediction, category: Category | None) -> int | None:
    slugs = [row["slug"] for row in prediction.top5 or []]
    return slugs.index(category.slug) + 1 if category and category.slug in slugs else None


def _verdict_of(category: Category | None, rank: int | None) -> Feedback.Verdict:
    if category is None:
        return Feedback.Verdict.NONE
    return Feedback.Verdict.TOP5 if rank else Feedback.Verdict.OTHER
