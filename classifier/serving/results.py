"""Store the results of a batch by one guarded UPDATE."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils import timezone
from pgvector import HalfVector
from pgvector.psycopg.halfvec import HalfVectorBinaryDumper
from psycopg.types import TypeInfo

from classifier.ml.classifier import ProductInput
from classifier.modalities import MODALITIES
from classifier.models import VECTORS, Category, Prediction
from classifier.serving.inference import PredictionResult, round_probabilities, top_five
from common.photos.copies import photo_hash, signed

COLUMNS = {
    **{f"{entry.version_column}_id": "bigint" for entry in MODALITIES.values()},
    **{entry.probabilities_column: "jsonb" for entry in MODALITIES.values()},
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
# binary: as text they would cost both sides more than all the rest. The lease token, not the state alone, guards the
# rows: a worker that lost its lease still sees "running", but the row belongs to another worker by then.
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


@dataclass(frozen=True)
class AnsweredProduct:
    """A claimed prediction, what the models read of it, and their result."""

    prediction: Prediction
    product: ProductInput
    result: PredictionResult


def store_results(
    answered: Sequence[AnsweredProduct], categories: Sequence[Category], *, milliseconds: float
) -> set[uuid.UUID]:
    """Store the results of predictions that were claimed together; return those whose lease was still valid."""
    ids = [each.prediction.pk for each in answered]
    rows = [_row(each, categories, milliseconds) for each in answered]
    vectors = [[_vector(each.result, modality) for each in answered] for modality in MODALITIES]
    lease_token = answered[0].prediction.lease_token
    connection.ensure_connection()
    # Django's own cursors send every parameter as text.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        halfvec = _halfvec(connection.connection)
        halfvec.register(cursor)
        cursor.adapters.register_dumper(HalfVector, _dumper(halfvec.oid))
        cursor.execute(UPDATE, [timezone.now(), json.dumps(rows), ids, *vectors, lease_token])
        return {pk for (pk,) in cursor.fetchall()}


def _halfvec(server: "psycopg.Connection[Any]") -> TypeInfo:
    """Return the vectors' type on the connection's server, read once a connection."""
    if (known := _types.get(server)) is None:
        known = TypeInfo.fetch(server, "halfvec")
        if known is None:
            raise ImproperlyConfigured("The extension vector is missing from the database: run `manage.py migrate`.")
        _types[server] = known
    return known


@cache
def _dumper(oid: int) -> type[HalfVectorBinaryDumper]:
    """Return the one class that writes vectors of this type: psycopg keeps every class that it is given for ever."""
    return type("HalfVectorDumper", (HalfVectorBinaryDumper,), {"oid": oid})


def _row(answered: AnsweredProduct, categories: Sequence[Category], milliseconds: float) -> dict[str, Any]:
    result, photo = answered.result, answered.product.photo
    row: dict[str, Any] = {
        "id": str(answered.prediction.pk),
        "probabilities": round_probabilities(result.probabilities, categories),
        "ensemble": result.ensemble,
        "top5": top_five(result.probabilities, categories),
        "unusual": result.unusual,
        "passes": {modality: output.pass_record() for modality, output in result.outputs.items()},
        "milliseconds": milliseconds,
        "photo_hash": None if photo is None else signed(photo_hash(photo)),
    }
    for modality, entry in MODALITIES.items():
        output = result.outputs.get(modality)
        row[f"{entry.version_column}_id"] = output and output.version.pk
        row[entry.probabilities_column] = output and round_probabilities(output.probabilities, categories)
    return row


def _vector(result: PredictionResult, modality: str) -> HalfVector | None:
    output = result.outputs.get(modality)
    return HalfVector(output.embedding) if output else None
