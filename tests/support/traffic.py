"""Store predictions and answers of a given hour, and read the summaries of it."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
from django.utils import timezone

from classifier.models import Category, ModelVersion, Prediction
from feedback.models import Feedback, HealthSummary
from portal.models import User

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
ENGLISH = "the new case with a black cover for your phone"
SPANISH = "la funda negra para el móvil con una correa de color"


def live_pair() -> tuple[int, int]:
    versions = dict(ModelVersion.objects.values_list("modality", "pk"))
    return versions["text"], versions["image"]


def store_predictions(
    seller: User, at: datetime, count: int, *, words: str = ENGLISH, confidence: float = 0.8, within: timedelta = HOUR
) -> list[Prediction]:
    """Store predictions that were finished in the hour: mugs mostly, and guitars."""
    mug, guitar = Category.objects.order_by("slug").values_list("slug", flat=True)[:2]
    text, image = live_pair()
    chance = random.Random(f"{at} {count}")
    noise = np.random.default_rng(chance.randrange(1 << 30))
    rows = []
    for number in range(count):
        slug = mug if chance.random() < 0.7 else guitar
        top = min(max(confidence + chance.uniform(-0.1, 0.1), 0.3), 0.99)
        finished = at + (number + 0.5) / count * within
        rows.append(
            Prediction(
                seller=seller,
                title=f"{words} {chance.randrange(10 ** chance.randint(1, 9))}",
                state="done",
                text_version_id=text,
                image_version_id=image,
                probabilities={slug: top},
                text_probabilities={mug: 0.6, guitar: 0.4},
                image_probabilities={guitar: 0.6, mug: 0.4},
                top5=[{"category": slug, "slug": slug, "probability": top}],
                text_embedding=noise.normal(size=8).tolist(),
                image_embedding=noise.normal(size=8).tolist(),
                milliseconds=40.0,
                created_at=finished - timedelta(seconds=2),
                finished_at=finished,
            )
        )
    return Prediction.objects.bulk_create(rows)


def store_answer(
    row: Prediction, *, right: bool = True, review: str = "accepted", inclusion_probability: float | None = 0.1
) -> None:
    slug = row.top5[0]["slug"]  # type: ignore[index]
    categories = Category.objects.order_by("slug")
    chosen = categories.get(slug=slug) if right else categories.exclude(slug=slug)[0]
    Feedback.objects.create(
        prediction=row,
        seller=row.seller,
        category=chosen,
        rank=1 if right else None,
        verdict="top5" if right else "other",
        review=review,
        inclusion_probability=inclusion_probability,
        reviewed_at=timezone.now() if review != "open" else None,
    )


def stored_summary(start: datetime, period: str = "hour") -> HealthSummary:
    return HealthSummary.objects.get(
        period=period, start=start, text_version=live_pair()[0], image_version=live_pair()[1]
    )
