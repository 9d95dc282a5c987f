"""Store answers for the review queue without running the models."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from django.utils import timezone

from classifier.models import Category, ModelVersion, Prediction
from feedback.models import Feedback
from portal.models import User
from tests.support.model_versions import live_version_name


def model_probabilities(best: str, sure: float) -> dict[str, float]:
    """Return a model's probabilities: `sure` of one category, the rest evenly over the others."""
    slugs = list(Category.objects.values_list("slug", flat=True))
    return {slug: sure if slug == best else (1 - sure) / (len(slugs) - 1) for slug in slugs}


def store_answer(
    seller: User,
    chosen: str | None,
    *,
    text: tuple[str, float],
    image: tuple[str, float] | None = None,
    title: str = "Mug",
    embedding: Sequence[float] | None = None,
    **answer: Any,
) -> Feedback:
    """Store a done prediction and the seller's answer to it; None for "none of these fits"."""
    names = dict(Category.objects.values_list("slug", "name"))
    mixed: Mapping[str, float] = model_probabilities(*text)
    ranked = sorted(mixed.items(), key=lambda item: -item[1])[:5]
    version = ModelVersion.objects.get(modality="text", name=live_version_name())
    prediction = Prediction.objects.create(
        seller=seller,
        title=title,
        state="done",
        text_version=version,
        text_probabilities=mixed,
        image_probabilities=model_probabilities(*image) if image else None,
        probabilities=mixed,
        top5=[{"slug": slug, "category": names[slug], "probability": p} for slug, p in ranked],
        text_embedding=None if embedding is None else np.asarray(embedding, np.float32),
        finished_at=timezone.now(),
    )
    slugs = [slug for slug, _p in ranked]
    rank = slugs.index(chosen) + 1 if chosen in slugs else None
    category = Category.objects.get(slug=chosen) if chosen else None
    verdict = "none" if category is None else "top5" if rank else "other"
    return Feedback.objects.create(
        prediction=prediction, seller=seller, category=category, rank=rank, verdict=verdict, **answer
    )
