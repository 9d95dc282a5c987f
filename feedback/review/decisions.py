"""Record and undo reviewers' decisions about sellers' answers.

Each decision is a row; the newest one that was not undone applies to the answer.
"""

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

SECOND_SHARE = 0.1  # of the decisions in the queue get a second opinion
ROWS_PER_TRANSACTION = 500
STATES = {
    Review.Verdict.ACCEPT: Feedback.Review.ACCEPTED,
    Review.Verdict.CORRECT: Feedback.Review.CORRECTED,
    Review.Verdict.REJECT: Feedback.Review.REJECTED,
    Review.Verdict.NONE: Feedback.Review.NO_CATEGORY,
    Review.Verdict.FLAG: Feedback.Review.FLAGGED,
}
VERDICTS = {state: verdict for verdict, state in STATES.items()}
DECISION_FIELDS = ["review", "correction", "reviewed_by", "reviewed_at", "second_wanted"]


class StaleReview(Exception):
    """The answer or its review changed after the reviewer saw it."""


def reopen_answer(feedback: Feedback) -> list[str]:
    """Reset what was decided and measured about an answer that the seller has replaced.

    Return the fields that changed; the caller saves them. The decisions' rows are kept.
    """
    feedback.review, feedback.reviewed_by, feedback.reviewed_at = Feedback.Review.OPEN, None, None
    feedback.correction, feedback.second_wanted, feedback.worth, feedback.reason = None, False, None, ""
    return [*DECISION_FIELDS, "worth", "reason"]


@transaction.atomic
def record_review(
    *,
    feedback: Feedback,
    verdict: Review.Verdict,
    reviewer: "AbstractBaseUser",
    category: Category | None = None,
    is_blind: bool = False,
) -> Review:
    """Record a reviewer's decision about the answer, whose `answered_at` and `review` are those that were shown.

    A decision that agrees with the seller is stored as an acceptance: a correction to the chosen category, or "none" of
    a "none". A blind decision on an answer that wants a second reviewer is stored as a second opinion. Raises
    StaleReview where the answer or its review changed, ValueError for a correction without a category.
    """
    if (verdict == Review.Verdict.CORRECT) != (category is not None):
        raise ValueError("a correction needs a category, and other decisions must not have one")
    # What the reviewer saw is compared under the lock: two decisions at once must not both apply.
    now = Feedback.objects.select_for_update(of=("self",)).select_related("category").filter(pk=feedback.pk).first()
    if now is None or (now.answered_at, now.review) != (feedback.answered_at, feedback.review):
        raise StaleReview
    if verdict in (Review.Verdict.CORRECT, Review.Verdict.NONE) and (category and category.pk) == now.category_id:
        verdict, category = Review.Verdict.ACCEPT, None
    first = _applicable_reviews(now).first() if now.second_wanted and is_blind else None
    if first and first.reviewer_id == reviewer.pk:
        first = None
    review = Review.objects.create(
        feedback=now, reviewer_id=reviewer.pk, verdict=verdict, category=category, is_blind=is_blind, first=first,
        answer=now.answer(), answered_at=now.answered_at,
    )  # fmt: skip
    _apply_decision(now, review)
    _write_audit_log(reviewer, [now], str(review))
    return review


@transaction.atomic
def undo_review(*, review: Review, reviewer: "AbstractBaseUser") -> bool:
    """Undo the reviewer's own decision, so that the one before applies again; return False if it was undone already."""
    feedback = Feedback.objects.select_for_update(of=("self",)).get(pk=review.feedback_id)
    own = Review.objects.standing().filter(pk=review.pk, reviewer=reviewer.pk)
    if not own.update(undone_at=timezone.now()):
        return False
    # A decision about an earlier answer never applies to the current one.
    if feedback.answered_at == review.answered_at:
        _apply_decision(feedback, _applicable_reviews(feedback).first())
    _write_audit_log(reviewer, [feedback], f"Undone: {review}")
    return True


def review_feedback(
    *, ids: Sequence[UUID], review: Feedback.Review, reviewer: "AbstractBaseUser", seen: datetime | None = None
) -> int:
    """Decide about many answers at once; return how many changed.

    Answers that were given or reviewed after `seen`, the time of the reviewer's page (default: now), are not changed.
    An answer that is no longer accepted leaves the examples with the next dataset.
    """
    seen = seen or timezone.now()
    return sum(
        _review_batch(ids[start : start + ROWS_PER_TRANSACTION], VERDICTS[review], reviewer, seen)
        for start in range(0, len(ids), ROWS_PER_TRANSACTION)
    )


def changed_after(seen: datetime) -> Q:
    """Return the condition that an answer was given or reviewed after a time."""
    return Q(answered_at__gt=seen) | Q(reviewed_at__gt=seen)


@transaction.atomic
def _review_batch(ids: Sequence[UUID], verdict: Review.Verdict, reviewer: "AbstractBaseUser", seen: datetime) -> int:
    rows = Feedback.objects.filter(pk__in=ids).exclude(changed_after(seen)).exclude(review=STATES[verdict])
    found = list(rows.select_for_update(of=("self",)).select_related("category").order_by("pk"))
    Review.objects.bulk_create(
        Review(
            feedback=row, reviewer_id=reviewer.pk, verdict=verdict, answer=row.answer(), answered_at=row.answered_at
        )
        for row in found
    )  # fmt: skip
    _write_audit_log(reviewer, found, str(verdict.label))
    return Feedback.objects.filter(pk__in=[row.pk for row in found]).update(
        review=STATES[verdict],
        correction=None,
        reviewed_by=reviewer,
        reviewed_at=timezone.now(),
        second_wanted=False,
    )


def wants_second(feedback: Feedback) -> bool:
    """Return whether an answer gets a second opinion, which its id alone decides."""
    return bool(select_random_share([f"{feedback.pk} second"], SECOND_SHARE)[0])


def _apply_decision(feedback: Feedback, review: Review | None) -> None:
    """Store on the answer which decision applies; None for none."""
    second = review is not None and review.first_id is None and wants_second(feedback)
    values: dict[str, Any] = {
        "review": STATES[Review.Verdict(review.verdict)] if review else Feedback.Review.OPEN,
        "correction_id": review.category_id if review else None,
        "reviewed_by_id": review.reviewer_id if review else None,
        "reviewed_at": review.created_at if review else None,
        "second_wanted": second and review is not None and review.verdict != Review.Verdict.FLAG,
    }
    Feedback.objects.filter(pk=feedback.pk).update(**values)


def _applicable_reviews(feedback: Feedback) -> Any:
    return feedback.reviews.standing().filter(answered_at=feedback.answered_at).order_by("-pk")


def _write_audit_log(reviewer: "AbstractBaseUser", rows: Sequence[Feedback], message: str) -> None:
    """Write the change to the audit log."""
    if rows:
        LogEntry.objects.log_actions(reviewer.pk, rows, CHANGE, message)
