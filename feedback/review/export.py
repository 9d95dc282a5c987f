"""Export a filtered set of answers as a zip archive with a table and photos, written while it is sent."""

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import IO, Any, Protocol, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from django.core.files.storage import default_storage
from django.utils import timezone

from common.object_storage import storage_faults
from feedback.models import PREDICTIONS_VECTORS, Feedback, FeedbackQuerySet

ROWS_PER_BATCH = 100
IDS_PER_FETCH = 2_000
ROWS_PER_GROUP = 1_000
CHUNK_BYTES = 1 << 18
COLUMNS: Mapping[str, str] = {
    "id": "string", "prediction": "string", "seller": "string", "title": "string", "description": "string",
    "photo": "string", "chosen": "string", "rank": "int64", "wish": "string", "final": "string", "review": "string",
    "language": "string", "confidence": "double", "disagreement": "double", "reason": "string", "inclusion": "double",
    "text_version": "string", "image_version": "string", "text_probabilities": "string",
    "image_probabilities": "string", "probabilities": "string", "answered_at": "timestamp[us, tz=UTC]",
    "reviewed_at": "timestamp[us, tz=UTC]",
}  # fmt: skip


class Table(Protocol):
    """A table that is written in batches."""

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what is left; the file stays open."""


class CsvTable:
    """A CSV file in UTF-8 with times in ISO 8601, probabilities as JSON, and empty cells for missing values."""

    def __init__(self, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._text, list(COLUMNS))
        self._writer.writeheader()

    def write(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            times = {name: value.isoformat() for name, value in row.items() if isinstance(value, datetime)}
            self._writer.writerow(row | times)

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


class ParquetTable:
    """A Parquet file with typed columns.

    Rows are written in large groups, because the file's footer lists every group.
    """

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow
        import pyarrow.parquet

        kinds = {"string": pyarrow.string(), "int64": pyarrow.int64(), "double": pyarrow.float64()}
        time = pyarrow.timestamp("us", tz="UTC")
        self._table = pyarrow.Table
        self._schema = pyarrow.schema([(name, kinds.get(kind, time)) for name, kind in COLUMNS.items()])
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._rows += rows
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


FORMATS: Mapping[str, type[CsvTable] | type[ParquetTable]] = {"csv": CsvTable, "parquet": ParquetTable}


def export_answers(rows: FeedbackQuerySet, format: str) -> Iterator[bytes]:
    """Yield a zip archive with `answers.csv` or `answers.parquet` and `photos/`. Raises KeyError for another format.

    Memory holds one batch; the table is collected in a temporary file. Raises StorageDown, which aborts the download.
    """
    pipe = _Pipe()
    with ZipFile(cast(IO[bytes], pipe), "w", ZIP_STORED) as archive, tempfile.TemporaryFile() as file:
        table: Table = FORMATS[format](file)
        for batch in _answer_batches(rows):
            written = []
            for feedback in batch:
                name = f"photos/{feedback.prediction_id}.jpg"
                content = _read_photo(feedback)
                if content is not None:
                    archive.writestr(name, content)
                    yield pipe.take()
                written.append(_export_row(feedback, name if content is not None else None))
            table.write(written)
        table.close()
        file.seek(0)
        info = ZipInfo(f"answers.{format}", timezone.now().timetuple()[:6])
        info.compress_type = ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=True) as member:
            while piece := file.read(CHUNK_BYTES):
                member.write(piece)
                yield pipe.take()
    yield pipe.take()


def _answer_batches(rows: FeedbackQuerySet) -> Iterator[list[Feedback]]:
    """Yield all rows, the newest first; only their ids are read through a cursor, without an open transaction."""
    whole = Feedback.objects.select_related(
        "prediction__text_version", "prediction__image_version", "category", "correction"
    ).defer(*PREDICTIONS_VECTORS)
    ids = rows.order_by("-answered_at").values_list("pk", flat=True).iterator(chunk_size=IDS_PER_FETCH)
    while batch := list(islice(ids, ROWS_PER_BATCH)):
        yield list(whole.filter(pk__in=batch))


def _read_photo(feedback: Feedback) -> bytes | None:
    if not feedback.prediction.photo_large:
        return None
    try:
        with storage_faults(), default_storage.open(feedback.prediction.photo_large) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None


def _export_row(feedback: Feedback, photo: str | None) -> dict[str, Any]:
    prediction = feedback.prediction
    return {
        "id": str(feedback.pk),
        "prediction": str(prediction.pk),
        "seller": str(feedback.seller_id),
        "title": prediction.title,
        "description": prediction.description,
        "photo": photo,
        "chosen": feedback.category and feedback.category.slug,
        "rank": feedback.rank,
        "wish": feedback.wish,
        "final": feedback.final and feedback.final.slug,
        "review": feedback.review,
        "language": feedback.language or None,
        "confidence": feedback.confidence,
        "disagreement": feedback.disagreement,
        "reason": feedback.reason or None,
        "inclusion": feedback.inclusion_probability,
        "text_version": prediction.text_version and prediction.text_version.name,
        "image_version": prediction.image_version and prediction.image_version.name,
        "text_probabilities": _as_json(prediction.text_probabilities),
        "image_probabilities": _as_json(prediction.image_probabilities),
        "probabilities": _as_json(prediction.probabilities),
        "answered_at": feedback.answered_at,
        "reviewed_at": feedback.reviewed_at,
    }


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


class _Pipe:
    """A file to write the archive to; `take` returns what was written since the last call."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, content: bytes) -> int:
        self._pieces.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        content = b"".join(self._pieces)
        self._pieces.clear()
        return content
