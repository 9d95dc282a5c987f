"""The results of a batch, stored by one guarded UPDATE."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from django.db import connection
from django.utils import timezone

from classifier.answers import Answer, Said, five_likeliest, shown
from classifier.models import Category, Prediction

COLUMNS = {
    "text_version_id": "bigint",
    "image_version_id": "bigint",
    "text_probabilities": "jsonb",
    "image_probabilities": "jsonb",
    "probabilities": "jsonb",
    "ensemble": "jsonb",
    "top5": "jsonb",
    "text_embedding": "halfvec",
    "image_embedding": "halfvec",
    "passes": "jsonb",
    "milliseconds": "double precision",
}
DIGITS = 6  # of an embedding: more than a half-precision number of its size holds

# The batch travels as one JSON document, so that the statement is the same for any number of rows.
UPDATE = f"""
UPDATE classifier_prediction AS prediction
SET state = 'done', error = '', finished_at = %s, {", ".join(f"{name} = result.{name}" for name in COLUMNS)}
FROM json_to_recordset(%s) AS result(id uuid, {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())})
WHERE prediction.id = result.id AND prediction.state = 'running' AND prediction.lease = %s
RETURNING prediction.id
"""  # noqa: S608 - made of the names above


def store(
    predictions: Sequence[Prediction],
    answers: Sequence[Answer],
    categories: Sequence[Category],
    *,
    milliseconds: float,
) -> set[uuid.UUID]:
    """Store the answers of predictions that were claimed together; return those whose lease still held."""
    rows = [
        {"id": str(prediction.pk), **_row(answer, categories), "milliseconds": milliseconds}
        for prediction, answer in zip(predictions, answers, strict=True)
    ]
    with connection.cursor() as cursor:
        cursor.execute(UPDATE, [timezone.now(), json.dumps(rows), predictions[0].lease])
        return {pk for (pk,) in cursor.fetchall()}


def _row(answer: Answer, categories: Sequence[Category]) -> dict[str, Any]:
    text, image = answer.text, answer.image
    return {
        "text_version_id": text and text.version.pk,
        "image_version_id": image and image.version.pk,
        "text_probabilities": text and shown(text.probabilities, categories),
        "image_probabilities": image and shown(image.probabilities, categories),
        "probabilities": shown(answer.combined, categories),
        "ensemble": answer.ensemble,
        "top5": five_likeliest(answer.combined, categories),
        "text_embedding": text and _vector(text),
        "image_embedding": image and _vector(image),
        "passes": {said.version.modality: said.how() for said in (text, image) if said},
    }


def _vector(said: Said) -> list[float]:
    # Rounded as float64: the shortest form of a float32 has digits to spare.
    return np.round(said.embedding.astype(np.float64), DIGITS).tolist()  # type: ignore[no-any-return]
