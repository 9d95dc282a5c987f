"""Give the sellers' answers and the staff's reviews, at the times at which they would have come."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.admin.models import LogEntry

from classifier.models import Category, Prediction
from feedback.models import Feedback, Review
from feedback.review.decisions import record_review
from portal.demo.catalogue import GROCERIES
from portal.demo.listings import Listing, Progress, random_id
from portal.demo.shops import MISLABELLING, Staff
from portal.models import Product, User

UNANSWERED_SHARE = 0.1
ACCEPTS_FIRST_SHARE = 0.03  # sellers who take the first suggestion without reading it
SLIP_SHARE = 0.02  # who tap on the line below the right one
MISLABELLED_SHARE = 0.45  # of the groceries of the shop that mislabels on purpose
FAVOURITE = "beauty"
DISAGREEMENT_SHARE = 0.06  # of the second opinions
ROWS_AT_ONCE = 200


@dataclass
class Answers:
    """What is right for each prediction, and the categories by slug: what answers and reviews are made from."""

    truths: dict[UUID, str] = field(default_factory=dict)
    categories: Mapping[str, Category] = field(
        default_factory=lambda: {category.slug: category for category in Category.objects.all()}
    )

    def answer_listings(self, chance: random.Random, listings: Sequence[Listing], *, now: datetime) -> int:
        """Let the sellers answer; return how many answers they gave."""
        predictions = Prediction.objects.filter(state=Prediction.State.DONE).only("pk", "top5", "finished_at")
        found = predictions.in_bulk([listing.prediction_id for listing in listings])
        answers, answered = [], []
        for listing in listings:
            self.truths[listing.prediction_id] = listing.product.category
            # Drawn for each listing, answered or not, so that one more answer doesn't change all that follow.
            key, minutes, is_answered = random_id(chance), chance.lognormvariate(1.5, 1.2), chance.random()
            slug = self._choice(chance, listing, found.get(listing.prediction_id))
            prediction = found.get(listing.prediction_id)
            if prediction is None or prediction.finished_at is None or is_answered < UNANSWERED_SHARE:
                continue
            at = prediction.finished_at + timedelta(minutes=minutes)
            if at > now:
                continue
            category = self.categories.get(slug)
            answers.append(_feedback(key, prediction, listing, category, at))
            answered.append(Product(pk=listing.product_id, category=category, answer=answers[-1]))
        Feedback.objects.bulk_create(answers, batch_size=ROWS_AT_ONCE)
        Product.objects.bulk_update(answered, ["category", "answer"], ROWS_AT_ONCE)
        return len(answers)

    def _choice(self, chance: random.Random, listing: Listing, prediction: Prediction | None) -> str:
        """Return the slug of what the seller chooses, or nothing for "none of these"."""
        habit, truth = chance.random(), listing.product.category
        suggested = [row["slug"] for row in (prediction.top5 if prediction else None) or []]
        if listing.shop.kind == MISLABELLING and truth == GROCERIES and habit < MISLABELLED_SHARE:
            return FAVOURITE
        if not truth or not suggested:
            return truth
        if habit > 1 - ACCEPTS_FIRST_SHARE:
            return str(suggested[0])
        if habit > 1 - ACCEPTS_FIRST_SHARE - SLIP_SHARE:
            return str(next(slug for slug in suggested if slug != truth))
        return truth

    def review_answers(
        self,
        chance: random.Random,
        staff: Staff,
        *,
        until: datetime,
        backlog: timedelta,
        share: float,
        progress: Progress,
    ) -> int:
        """Review the random share, and of what is older than the backlog a share of the queue in its order.

        Return how many answers were reviewed.
        """
        queue = list(Feedback.objects.unreviewed().filter(answered_at__lt=until).in_queue_order())
        older = [row for row in queue if row.answered_at < until - backlog]
        chosen = {row.pk for row in older[: round(share * len(older))]}
        wanted = [row for row in queue if row.pk in chosen or row.inclusion_probability is not None]
        for row in wanted:
            self._review(chance, row, staff.scientist, is_second=False)
            progress(1)
        seconds = Feedback.objects.filter(pk__in=[row.pk for row in wanted], second_wanted=True)
        for row in seconds.order_by("answered_at", "pk"):
            self._review(chance, row, staff.colleague, is_second=True)
        return len(wanted)

    def _review(self, chance: random.Random, row: Feedback, reviewer: User, *, is_second: bool) -> None:
        truth = self.truths[row.prediction_id]
        if is_second and chance.random() < DISAGREEMENT_SHARE:
            truth = chance.choice(sorted(self.categories))
        category = self.categories.get(truth)
        verdict = Review.Verdict.CORRECT if category else Review.Verdict.NONE
        review = record_review(feedback=row, verdict=verdict, reviewer=reviewer, category=category, is_blind=is_second)
        at = row.answered_at + timedelta(hours=chance.uniform(1, 8) + (14 if is_second else 0))
        _set_review_back(review, min(at, review.created_at))


def _feedback(key: UUID, prediction: Prediction, listing: Listing, category: Category | None, at: datetime) -> Feedback:
    """Return the answer as `feedback.services.record_feedback` keeps it, under an id of the demo's.

    The id decides whether the answer is in the random share of the review.
    """
    suggested = [row["slug"] for row in prediction.top5 or []]
    rank = suggested.index(category.slug) + 1 if category and category.slug in suggested else None
    verdict = Feedback.Verdict.OTHER if category else Feedback.Verdict.NONE
    return Feedback(
        pk=key,
        prediction=prediction,
        seller=listing.shop.user,
        verdict=Feedback.Verdict.TOP5 if rank else verdict,
        category=category,
        rank=rank,
        wish="" if category else listing.product.requested,
        created_at=at,
        answered_at=at,
    )


def _set_review_back(review: Review, at: datetime) -> None:
    Review.objects.filter(pk=review.pk).update(created_at=at)
    Feedback.objects.filter(pk=review.feedback_id).update(reviewed_at=at)
    LogEntry.objects.filter(object_id=str(review.feedback_id), user=review.reviewer_id).update(action_time=at)
