"""The rows of a window as drift's summary: all of them counted, a sample of them looked at closely."""

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

DOUBTED = (Feedback.Review.REJECTED, Feedback.Review.FLAGGED)  # answers that say nothing
PHOTOS = 300  # of an hour that are looked at: reading one costs as much as summarising a hundred rows
PHOTOS_AT_ONCE = 50
PHOTO_COLUMNS = (DriftColumn.PHOTO_SIZE, DriftColumn.PHOTO_BRIGHTNESS, DriftColumn.PHOTO_SHARPNESS)

Values = npt.NDArray[np.float64]


def summarise_window(rows: Sequence[Any], languages: Sequence[str], reference: Baseline) -> DriftSummary:
    """Summarise rows of `summarising.PREDICTION`, with empty places for what `add_sampled_details` fills in."""
    return DriftSummary.of(prediction_columns(rows, languages, reference.dimensions), reference.layout)


def prediction_columns(rows: Sequence[Any], languages: Sequence[str], dimensions: dict[str, int]) -> FeatureBatch:
    """Return drift's columns of predictions; photographs and embeddings, which cost more to read, are not known yet."""
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
    """Fill in the sample's embeddings, and how its first 300 photographs look."""
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
    """Return the summary with the column "label": all labels counted, and those of the sample as they are now."""
    cells = labels_of(found.sample.ids)
    sample = replace(found.sample, categories=found.sample.categories | {DriftColumn.LABEL: cells})
    return replace(found, categories=found.categories | {DriftColumn.LABEL: labels}, sample=sample)


def labels_of(ids: Sequence[str]) -> list[str | None]:
    """Return the categories (n,) that sellers or reviewers gave, None where nobody has."""
    said = Feedback.objects.filter(prediction__in=[UUID(id) for id in ids]).exclude(review__in=DOUBTED)
    rows = said.select_related("category", "correction").order_by()
    chosen = {str(row.prediction_id): row.final.slug if row.final else None for row in rows}
    return [chosen.get(id) for id in ids]


def embeddings_of(ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Return {"text", "image"} embeddings (n, dim) with rows of NaN where there is none; without a kind nobody has."""
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


def photos_of(ids: Sequence[str], most: int = PHOTOS) -> dict[str, Values]:
    """Return the columns of photographs (n,), NaN where none was read; one that can't be had now is left out."""
    place = {id: row for row, id in enumerate(ids)}
    with_photo = Prediction.objects.filter(pk__in=ids).exclude(photo_small="").only("pk", "photo_small")
    chosen = sorted(with_photo, key=lambda each: place[str(each.pk)])[:most]
    found: dict[str, Values] = {name: np.full(len(ids), np.nan) for name in PHOTO_COLUMNS}
    for start in range(0, len(chosen), PHOTOS_AT_ONCE):
        some = chosen[start : start + PHOTOS_AT_ONCE]
        for each, image in zip(some, read_photos(some), strict=True):
            if image is not None and not isinstance(image, Exception):
                _note(measure_photo(image), place[str(each.pk)], found)
    return found


def _note(seen: PhotoFeatures, row: int, found: dict[str, Values]) -> None:
    values = (float(np.log(seen.width * seen.height)), seen.brightness, seen.sharpness)
    for name, value in zip(PHOTO_COLUMNS, values, strict=True):
        found[name][row] = value
