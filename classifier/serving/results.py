"""The results of a batch, stored by one guarded UPDATE."""

import json
import uuid
from collections.abc import Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db import connection
from django.utils import timezone
from pgvector import HalfVector
from pgvector.psycopg.halfvec import HalfVectorBinaryDumper
from psycopg.types import TypeInfo

from classifier.models import VECTORS, Category
from classifier.serving.inference import ModelOutput, PredictionResult, ProductInput, round_probabilities, top_five
from common.photos.copies import photo_hash, signed

COLUMNS = {
    "text_version_id": "bigint",
    "image_version_id": "bigint",
    "text_probabilities": "jsonb",
    "image_probabilities": "jsonb",
    "probabilities": "jsonb",
    "ensemble": "jsonb",
    "top5": "jsonb",
    "passes": "jsonb",
    "milliseconds": "double precision",
    "unusual": "text",
    "photo_hash": "bigint",
}

_types: "WeakKeyDictionary[psycopg.Connection[Any], TypeInfo]" = WeakKeyDictionary()

# The batch travels as one JSON document, so that the statement is the same for any number of rows, and its vectors in
# binary: as text they would cost both sides more than all the rest.
UPDATE = f"""
UPDATE classifier_prediction AS prediction
SET state = 'done', error = '', finished_at = %s,
    {", ".join(f"{name} = result.{name}" for name in COLUMNS)},
    {", ".join(f"{name} = vectors.{name}" for name in VECTORS)}
FROM json_to_recordset(%s) AS result(id uuid, {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())})
JOIN unnest(%s::uuid[], {", ".join("%b::halfvec[]" for _ in VECTORS)}) AS vectors(id, {", ".join(VECTORS)}) USING (id)
WHERE prediction.id = result.id AND prediction.state = 'running' AND prediction.lease = %s
RETURNING prediction.id
"""  # noqa: S608 - made of the names above


def store_results(
    questions: Sequence[ProductInput],
    answers: Sequence[PredictionResult],
    categories: Sequence[Category],
    *,
    milliseconds: float,
) -> set[uuid.UUID]:
    """Store the answers to predictions that were claimed together; return those whose lease still held."""
    ids = [question.prediction.pk for question in questions]
    rows = [
        {
            "id": str(question.prediction.pk),
            **_row(answer, categories),
            "milliseconds": milliseconds,
            "photo_hash": question.photo and signed(photo_hash(question.photo)),
        }
        for question, answer in zip(questions, answers, strict=True)
    ]
    texts, images = ([_vector(getattr(answer, kind)) for answer in answers] for kind in ("text", "image"))
    connection.ensure_connection()
    # Django's own cursors send every parameter as text.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        halfvec = _halfvec(connection.connection)
        halfvec.register(cursor)
        cursor.adapters.register_dumper(HalfVector, _dumper(halfvec.oid))
        cursor.execute(
            UPDATE, [timezone.now(), json.dumps(rows), ids, texts, images, questions[0].prediction.lease_token]
        )
        return {pk for (pk,) in cursor.fetchall()}


def _halfvec(server: "psycopg.Connection[Any]") -> TypeInfo:
    """Return what the connection's server calls the vectors' type, asked once a connection."""
    if (known := _types.get(server)) is None:
        known = TypeInfo.fetch(server, "halfvec")
        assert known, "the migrations make the extension"  # noqa: S101
        _types[server] = known
    return known


@cache
def _dumper(oid: int) -> type[HalfVectorBinaryDumper]:
    """Return the one class that writes vectors of this type: psycopg keeps every class it is given for ever."""
    return type("HalfVectorDumper", (HalfVectorBinaryDumper,), {"oid": oid})


def _row(answer: PredictionResult, categories: Sequence[Category]) -> dict[str, Any]:
    text, image = answer.text, answer.image
    return {
        "text_version_id": text and text.version.pk,
        "image_version_id": image and image.version.pk,
        "text_probabilities": text and round_probabilities(text.probabilities, categories),
        "image_probabilities": image and round_probabilities(image.probabilities, categories),
        "probabilities": round_probabilities(answer.combined, categories),
        "ensemble": answer.ensemble,
        "top5": top_five(answer.combined, categories),
        "unusual": answer.unusual,
        "passes": {said.version.modality: said.how() for said in (text, image) if said},
    }


def _vector(said: ModelOutput | None) -> HalfVector | None:
    return HalfVector(said.embedding) if said else None
