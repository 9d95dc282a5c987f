"""What reviewers decide about sellers' answers: each decision a row, the newest one in force on the answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.admin.models import CHANGE, LogEntry
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from classifier.models import Category
from feedback.models import Feedback, Review
from feedback.statistics.review_priority import select_random_share

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

SECOND_SHARE = 0.1  # of what was decided in the queue is shown to a second reviewer
ROWS_AT_ONCE = 500
STATES = {
    Review.Verdict.ACCEPT: Feedback.Review.ACCEPTED,
    Review.Verdict.CORRECT: Feedback.Review.CORRECTED,
    Review.Verdict.REJECT: Feedback.Review.REJECTED,
    Review.Verdict.NONE: Feedback.Review.HOMELESS,
    Review.Verdict.FLAG: Feedback.Review.FLAGGED,
}
VERDICTS = {state: verdict for verdict, state in STATES.items()}
JUDGED = ["review", "correction", "reviewed_by", "reviewed_at", "second_wanted"]


class StaleReview(Exception):
    """The answer or its review changed after the reviewer saw it."""


def reopen_answer(feedback: Feedback) -> list[str]:
    """Take back what was decided and measured about an answer that isn't the seller's any more.

    Return the fields that changed; the caller saves them. The decisions' rows stay.
    """
    feedback.review, feedback.reviewed_by, feedback.reviewed_at = Feedback.Review.OPEN, None, None
    feedback.correction, feedback.second_wanted, feedback.worth, feedback.reason = None, False, None, ""
    return [*JUDGED, "worth", "reason"]


@transaction.atomic
def record_review(
    *,
    feedback: Feedback,
    verdict: Review.Verdict,
    reviewer: "AbstractBaseUser",
    category: Category | None = None,
    is_blind: bool = False,
) -> Review:
    """Keep a reviewer's decision about the answer, whose `answered_at` and `review` are those that were shown.

    A decision that agrees with the seller is stored as an acceptance: a correction to the chosen category, or "none" of
    a "none". A blind decision on an answer that wants a second reviewer is stored as a second opinion. Raises
    StaleReview where the answer or its review changed, ValueError for a correction without a category.
    """
    if (verdict == Review.Verdict.CORRECT) != (category is not None):
        raise ValueError("a correction, and nothing else, names a category")
    now = Feedback.objects.select_for_update(of=("self",)).select_related("category").filter(pk=feedback.pk).first()
    if now is None or (now.answered_at, now.review) != (feedback.answered_at, feedback.review):
        raise StaleReview
    if verdict in (Review.Verdict.CORRECT, Review.Verdict.NONE) and (category and category.pk) == now.category_id:
        verdict, category = Review.Verdict.ACCEPT, None
    first = _standing(now).first() if now.second_wanted and is_blind else None
    if first and first.reviewer_id == reviewer.pk:
        first = None
    review = Review.objects.create(
        feedback=now, reviewer_id=reviewer.pk, verdict=verdict, category=category, is_blind=is_blind, first=first,
        answer=now.answer(), answered_at=now.answered_at,
    )  # fmt: skip
    _settle(now, review)
    _log(reviewer, [now], str(review))
    return review


@transaction.atomic
def undo_review(*, review: Review, reviewer: "AbstractBaseUser") -> bool:
    """Take the reviewer's own decision back; what was in force before it is in force again. Return whether it stood."""
    feedback = Feedback.objects.select_for_update(of=("self",)).get(pk=review.feedback_id)
    own = Review.objects.standing().filter(pk=review.pk, reviewer=reviewer.pk)
    if not own.update(undone_at=timezone.now()):
        return False
    if feedback.answered_at == review.answered_at:
        _settle(feedback, _standing(feedback).first())
    _log(reviewer, [feedback], f"Undone: {review}")
    return True


def review_feedback(
    *, ids: Sequence[UUID], review: Feedback.Review, reviewer: "AbstractBaseUser", seen: datetime | None = None
) -> int:
    """Accept answers, so that models learn from them, or keep them out; return how many changed.

    What was answered or judged after `seen`, when the reviewer's page was made (default: now), stays as it is. What was
    accepted and isn't any more leaves the examples with the next dataset.
    """
    seen = seen or timezone.now()
    return sum(
        _review(ids[start : start + ROWS_AT_ONCE], VERDICTS[review], reviewer, seen)
        for start in range(0, len(ids), ROWS_AT_ONCE)
    )


def changed_after(seen: datetime) -> Q:
    return Q(answered_at__gt=seen) | Q(reviewed_at__gt=seen)


@transaction.atomic
def _review(ids: Sequence[UUID], verdict: Review.Verdict, reviewer: "AbstractBaseUser", seen: datetime) -> int:
    rows = Feedback.objects.filter(pk__in=ids).exclude(changed_after(seen)).exclude(review=STATES[verdict])
    found = list(rows.select_for_update(of=("self",)).select_related("category").order_by("pk"))
    Review.objects.bulk_create(
        Review(
            feedback=row, reviewer_id=reviewer.pk, verdict=verdict, answer=row.answer(), answered_at=row.answered_at
        )
        for row in found
    )  # fmt: skip
    _log(reviewer, found, str(verdict.label))
    return Feedback.objects.filter(pk__in=[row.pk for row in found]).update(
        review=STATES[verdict],
        correction=None,
        reviewed_by=reviewer,
        reviewed_at=timezone.now(),
        second_wanted=False,
    )


def wants_second(feedback: Feedback) -> bool:
    """Whether an answer belongs to the share that two reviewers judge: decided by its id alone."""
    return bool(select_random_share([f"{feedback.pk} second"], SECOND_SHARE)[0])


def _settle(feedback: Feedback, review: Review | None) -> None:
    """Put the decision in force, None for none, onto the answer."""
    second = review is not None and review.first_id is None and wants_second(feedback)
    values: dict[str, Any] = {
        "review": STATES[Review.Verdict(review.verdict)] if review else Feedback.Review.OPEN,
        "correction_id": review.category_id if review else None,
        "reviewed_by_id": review.reviewer_id if review else None,
        "reviewed_at": review.created_at if review else None,
        "second_wanted": second and review is not None and review.verdict != Review.Verdict.FLAG,
    }
    Feedback.objects.filter(pk=feedback.pk).update(**values)


def _standing(feedback: Feedback) -> Any:
    return feedback.reviews.standing().filter(answered_at=feedback.answered_at).order_by("-pk")


def _log(reviewer: "AbstractBaseUser", rows: Sequence[Feedback], message: str) -> None:
    """Write it into the log of what staff changed."""
    if rows:
        LogEntry.objects.log_actions(reviewer.pk, rows, CHANGE, message)
