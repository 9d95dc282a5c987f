"""Store answered predictions of given versions and count them as an experiment does."""

from datetime import datetime, timedelta

from django.utils import timezone

from classifier.models import Category, ModelVersion, Prediction
from feedback.experiments.counts import VersionCounts, read_version_periods, sum_by_version
from feedback.models import Feedback
from portal.models import User


def live_counts(since: datetime, modality: str = "text") -> dict[int, VersionCounts]:
    """Return the counts of each live version since a time."""
    return sum_by_version(read_version_periods(modality, since, timezone.now()), is_shadow=False)


def an_hour_ago() -> datetime:
    return timezone.now() - timedelta(hours=1)


def store_answered_predictions(
    seller: User, version: ModelVersion, *, rank: int | None, review: str = Feedback.Review.OPEN, count: int = 1
) -> list[Prediction]:
    """Store answered predictions: the seller chose the category of this rank, or another one."""
    mug, guitar = Category.objects.order_by("slug")[:2]
    rows = [
        Prediction(
            seller=seller,
            title="Mug",
            state="done",
            text_version=version,
            probabilities={},
            top5=[],
            text_probabilities={mug.slug: 0.7, guitar.slug: 0.3},
            passes={"text": {"engine": "torch fp32", "ms": 10.0 + number, "rows": 1}},
            finished_at=timezone.now(),
        )
        for number in range(count)
    ]
    Prediction.objects.bulk_create(rows)
    Feedback.objects.bulk_create(
        Feedback(
            prediction=row,
            seller=seller,
            rank=rank,
            verdict="top5" if rank else "other",
            category=mug if rank == 1 else guitar,
            review=review,
        )
        for row in rows
    )
    return rows
