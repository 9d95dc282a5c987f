"""Summarise the predictions of a window for drift: count all rows, and read details of a sample."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from classifier.models import Prediction
from classifier.serving.photos import read_photos
from feedback.models import Feedback
from feedback.monitoring.baselines import KINDS, Baseline
from feedback.statistics.drift.codes import DriftColumn, embedding_column
from feedback.statistics.drift.columns import build_features
from feedback.statistics.drift.input_features import PhotoFeatures, measure_photo
from feedback.statistics.drift.summaries import DriftSummary, FeatureBatch, build_histogram

UNRELIABLE_REVIEWS = (Feedback.Review.REJECTED, Feedback.Review.FLAGGED)  # such answers are not counted
MAX_PHOTOS = 300  # of an hour: reading one takes as long as summarising a hundred rows
PHOTOS_PER_BATCH = 50
PHOTO_COLUMNS = (DriftColumn.PHOTO_SIZE, DriftColumn.PHOTO_BRIGHTNESS, DriftColumn.PHOTO_SHARPNESS)

Values = npt.NDArray[np.float64]


def summarise_window(rows: Sequence[Any], languages: Sequence[str], reference: Baseline) -> DriftSummary:
    """Summarise rows of `hourly_summaries.PREDICTION_FIELDS`; `add_sampled_details` fills in photos and embeddings."""
    return DriftSummary.of(prediction_columns(rows, languages, reference.dimensions), reference.layout)


def prediction_columns(rows: Sequence[Any], languages: Sequence[str], dimensions: dict[str, int]) -> FeatureBatch:
    """Return the drift columns of predictions without photos and embeddings, which take longer to read."""
    texts = [(row.title, row.description) for row in rows]
    confidence = [np.nan if row.top5__0__slug is None else row.top5__0__probability for row in rows]
    found = build_features(
        [str(row.pk) for row in rows],
        texts=texts,
        looks=[None] * len(rows),
        predicted=[row.top5__0__slug for row in rows],
        confidence=np.array(confidence, np.float32),
        embeddings={},
        projections={},
        languages=[spoken or None for spoken in languages],
        with_photo=[bool(row.photo_small) for row in rows],
    )
    vectors = {embedding_column(name): np.full((len(rows), dim), np.nan) for name, dim in dimensions.items()}
    return replace(found, vectors=vectors)


def add_sampled_details(found: DriftSummary, reference: Baseline) -> DriftSummary:
    """Add the embeddings of the sampled rows, and the features of their first 300 photos."""
    sample = found.sample
    embeddings = embeddings_of(sample.ids)
    vectors = {
        embedding_column(name): projection.apply(embeddings[name]).astype(np.float16)
        if name in embeddings
        else sample.vectors[embedding_column(name)]
        for name, projection in reference.projections.items()
    }
    photos = photos_of(sample.ids)
    return replace(
        found,
        numbers=found.numbers | {name: build_histogram(found.layout, name, photos[name]) for name in PHOTO_COLUMNS},
        sample=replace(sample, vectors=vectors, numbers=sample.numbers | photos),
    )


def with_labels(found: DriftSummary, labels: Counter[str]) -> DriftSummary:
    """Return the summary with the column of final categories: all of them counted, and those of the sample."""
    cells = labels_of(found.sample.ids)
    sample = replace(found.sample, categories=found.sample.categories | {DriftColumn.LABEL: cells})
    return replace(found, categories=found.categories | {DriftColumn.LABEL: labels}, sample=sample)


def labels_of(ids: Sequence[str]) -> list[str | None]:
    """Return the final categories (n,) of these predictions, None without one."""
    answers = Feedback.objects.filter(prediction__in=[UUID(id) for id in ids]).exclude(review__in=UNRELIABLE_REVIEWS)
    rows = answers.select_related("category", "correction").order_by()
    chosen = {str(row.prediction_id): row.final.slug if row.final else None for row in rows}
    return [chosen.get(id) for id in ids]


def embeddings_of(ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Return {"text", "image"} embeddings (n, dim) with rows of NaN where there is none; no entry without any."""
    stored = Prediction.objects.filter(pk__in=ids).order_by()
    found = {str(pk): vectors for pk, *vectors in stored.values_list("pk", *(f"{kind}_embedding" for kind in KINDS))}
    result = {}
    for number, kind in enumerate(KINDS):
        known = {
            id: np.asarray(vectors[number], np.float32) for id, vectors in found.items() if vectors[number] is not None
        }
        if known:
            dim = len(next(iter(known.values())))
            rows = np.full((len(ids), dim), np.nan, np.float32)
            for row, id in enumerate(ids):
                if id in known:
                    rows[row] = known[id]
            result[kind] = rows
    return result


def photos_of(ids: Sequence[str], limit: int = MAX_PHOTOS) -> dict[str, Values]:
    """Return the columns of photo features (n,), NaN without a photo and where the storage can't deliver it now."""
    place = {id: row for row, id in enumerate(ids)}
    with_photo = Prediction.objects.filter(pk__in=ids).exclude(photo_small="").only("pk", "photo_small")
    chosen = sorted(with_photo, key=lambda each: place[str(each.pk)])[:limit]
    found: dict[str, Values] = {name: np.full(len(ids), np.nan) for name in PHOTO_COLUMNS}
    for start in range(0, len(chosen), PHOTOS_PER_BATCH):
        some = chosen[start : start + PHOTOS_PER_BATCH]
        for each, image in zip(some, read_photos(some), strict=True):
            if image is not None and not isinstance(image, Exception):
                _note(measure_photo(image), place[str(each.pk)], found)
    return found


def _note(seen: PhotoFeatures, row: int, found: dict[str, Values]) -> None:
    values = (float(np.log(seen.width * seen.height)), seen.brightness, seen.sharpness)
    for name, value in zip(PHOTO_COLUMNS, values, strict=True):
        found[name][row] = value
