"""Set the review priority of open answers: those most worth a review first, and a random share."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from django.conf import settings
from django.db import transaction

from classifier.models import Modality
from feedback.models import Feedback, Reason
from feedback.statistics.divergence import jensen_shannon_divergence
from feedback.statistics.drift.language import guess_language
from feedback.statistics.label_errors import find_label_errors
from feedback.statistics.review_priority import order_for_review, select_random_share

RANDOM_SHARE = 0.1
MAX_COMPARED = 2_000  # answers that are ranked together
ROWS_PER_TRANSACTION = 500
DISAGREEMENT_FROM = 0.3  # bits of Jensen-Shannon divergence between two models
MIN_ROWS_FOR_DISTANCES = 30  # among fewer rows none is unlike the others
NEIGHBOURS = 5
FLAGGED_DISTANCE = 2.0  # the largest cosine distance

Values = npt.NDArray[np.float64]
FIELDS = [
    "answered_at",
    "category__slug",
    "prediction__title",
    "prediction__description",
    "prediction__top5",
    "prediction__text_probabilities",
    "prediction__image_probabilities",
    "prediction__text_embedding",
    "prediction__image_embedding",
    "prediction__text_version_id",
    "prediction__image_version_id",
    "prediction__unusual",
]


def prioritise_new_answers() -> int:
    """Rank up to `MAX_COMPARED` open answers that have no priority yet; return how many.

    A rank among a handful of answers means little, so they are compared with the newest ranked ones too, up to the
    limit. Those keep their priority once there are `MAX_COMPARED` of both, and are ranked again below that.
    """
    open_ = Feedback.objects.unreviewed()
    new = list(open_.filter(worth=None).order_by("answered_at").values_list("pk", flat=True)[:MAX_COMPARED])
    if not new:
        return 0
    ranked = open_.filter(worth__isnull=False).order_by("-answered_at").values_list("pk", flat=True)
    ids = [*new, *ranked[: MAX_COMPARED - len(new)]]
    prioritise_answers(ids, write=set(new) if len(ids) == MAX_COMPARED else set(ids))
    return len(new)


def prioritise_answers(ids: Sequence[UUID], *, write: AbstractSet[UUID]) -> None:
    """Rank these answers by how much a review of each is worth, and store the priority of those in `write`."""
    found: list[dict[str, Any]] = list(
        Feedback.objects.unreviewed().filter(pk__in=ids).order_by("pk").values("pk", *FIELDS)
    )
    if not found:
        return
    confidence = np.array([_top_confidence(row) for row in found], np.float64)
    slugs, models = _model_probabilities(found)
    differ = jensen_shannon_divergence(models["text"], models["image"])
    scores = {
        Reason.LABEL_ERROR.value: _label_error_scores(found, slugs, models),
        Reason.DISAGREEMENT.value: differ,
        Reason.DOUBT.value: 1 - confidence,
        Reason.UNUSUAL.value: _unlikeness_scores(found),
    }
    holds = {
        Reason.LABEL_ERROR.value: scores[Reason.LABEL_ERROR.value] > 0,
        Reason.DISAGREEMENT.value: differ >= DISAGREEMENT_FROM,
        Reason.DOUBT.value: confidence < settings.VERY_LIKELY,
    }
    any_ = np.ones(len(found), bool)
    names = [str(row["pk"]) for row in found]
    drawn = select_random_share(names, RANDOM_SHARE)
    rows = []
    for number, spot in enumerate(order_for_review(names, scores, random_share=RANDOM_SHARE)):
        row = found[spot.row]
        if row["pk"] not in write:
            continue
        rows.append(
            Feedback(
                pk=row["pk"],
                worth=1 - number / len(found),
                reason=spot.reason if holds.get(spot.reason, any_)[spot.row] else "",
                inclusion_probability=RANDOM_SHARE if drawn[spot.row] else None,
                language=_text_language(row),
                confidence=_finite_or_none(confidence[spot.row]),
                disagreement=_finite_or_none(differ[spot.row]),
                text_version_id=row["prediction__text_version_id"],
                image_version_id=row["prediction__image_version_id"],
            )
        )
    fields = [
        "worth", "reason", "inclusion_probability", "language", "confidence", "disagreement", "text_version",
        "image_version",
    ]  # fmt: skip
    answered_at = {row["pk"]: row["answered_at"] for row in found}
    for start in range(0, len(rows), ROWS_PER_TRANSACTION):
        _store_priorities(rows[start : start + ROWS_PER_TRANSACTION], fields, answered_at)


@transaction.atomic
def _store_priorities(rows: Sequence[Feedback], fields: Sequence[str], answered_at: Mapping[UUID, datetime]) -> None:
    """Store the priorities of the answers that are still open and did not change since they were read."""
    open_ = Feedback.objects.unreviewed().filter(pk__in=[row.pk for row in rows]).order_by("pk")
    now = dict(open_.select_for_update(of=("self",)).values_list("pk", "answered_at"))
    Feedback.objects.bulk_update([row for row in rows if now.get(row.pk) == answered_at[row.pk]], fields)


def _finite_or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _top_confidence(row: dict[str, Any]) -> float:
    top5 = row["prediction__top5"]
    return float(top5[0]["probability"]) if top5 else np.nan


def _text_language(row: dict[str, Any]) -> str:
    text = f"{row['prediction__title']} {row['prediction__description']}".strip()
    return guess_language(text) if text else ""


def _model_probabilities(found: Sequence[dict[str, Any]]) -> tuple[list[str], dict[str, Values]]:
    """Return the categories that occur, and each model's probabilities of them; rows of NaN without a result."""
    slugs = sorted({slug for row in found for name in Modality.values for slug in row[_probability_field(name)] or ()})
    columns = {slug: number for number, slug in enumerate(slugs)}
    models = {}
    for name in Modality.values:
        models[name] = np.full((len(found), len(slugs)), np.nan)
        for number, row in enumerate(found):
            if given := row[_probability_field(name)]:
                models[name][number] = 0.0
                models[name][number, [columns[slug] for slug in given]] = list(given.values())
    return slugs, models


def _probability_field(modality: str) -> str:
    return f"prediction__{modality}_probabilities"


def _label_error_scores(found: Sequence[dict[str, Any]], slugs: Sequence[str], models: dict[str, Values]) -> Values:
    """Return how likely each chosen category is an error; NaN for "none of these" and for unknown categories."""
    columns = {slug: number for number, slug in enumerate(slugs)}
    labels = np.array([columns.get(row["category__slug"], -1) for row in found], np.int64)
    known = labels >= 0
    suspicion = np.full(len(found), np.nan)
    if known.any():
        errors = find_label_errors({name: rows[known] for name, rows in models.items()}, labels[known])
        # Rows that confident learning finds come before those that are merely hard.
        suspicion[known] = errors.suspicion + np.where(errors.found, 1e3, 0.0)
    return suspicion


def _unlikeness_scores(found: Sequence[dict[str, Any]]) -> Values:
    """Return how unlike the others each product is; out-of-distribution ones come first."""
    apart = np.fmax(_neighbour_distances(found, Modality.TEXT), _neighbour_distances(found, Modality.IMAGE))
    flagged = np.array([bool(row["prediction__unusual"]) for row in found])
    return np.where(flagged, np.nan_to_num(apart) + FLAGGED_DISTANCE, apart)


def _neighbour_distances(found: Sequence[dict[str, Any]], modality: str) -> Values:
    """Return each product's mean cosine distance to its nearest others of the same model version; NaN for too few."""
    distances = np.full(len(found), np.nan)
    versions: dict[int, list[int]] = {}
    for number, row in enumerate(found):
        if row[f"prediction__{modality}_embedding"] is not None:
            versions.setdefault(row[f"prediction__{modality}_version_id"], []).append(number)
    for rows in versions.values():
        if len(rows) < MIN_ROWS_FOR_DISTANCES:
            continue
        vectors = np.array([found[number][f"prediction__{modality}_embedding"] for number in rows])
        vectors = vectors.astype(np.float32) / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        alike = vectors @ vectors.T
        np.fill_diagonal(alike, -np.inf)
        distances[rows] = 1 - np.partition(alike, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    return distances
