"""Empty the heavy columns of old predictions; the archive keeps their content under the prediction's UUID."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.files.storage import storages
from django.db.models import QuerySet

from classifier.archive import writer
from classifier.modalities import MODALITIES
from classifier.models import VECTORS, Prediction
from common.object_storage import storage_faults

BATCH = 200
THREADS = 8
VECTORS_FILE = "vectors.json"
LAST_FILE = "ensemble.json"  # written last by `archive_prediction`: it shows that the archive is complete
# A done prediction must have probabilities; an empty object marks that they were moved.
MOVED: dict[str, Any] = {
    "probabilities": {},
    **{entry.probabilities_column: None for entry in MODALITIES.values()},
    **{entry.embedding_column: None for entry in MODALITIES.values()},
}


@dataclass
class Outcome:
    """How many predictions were moved, and how many were left because their archive is missing."""

    moved: int = 0
    missing: int = 0


def slimmable(before: datetime) -> QuerySet[Prediction]:
    """Return archived predictions created before that moment that still have their heavy columns."""
    done = Prediction.objects.filter(state=Prediction.State.DONE, archived_at__isnull=False, created_at__lt=before)
    return done.exclude(probabilities={}).order_by("created_at")


def slim_predictions(*, before: datetime, progress: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Archive the vectors of slimmable predictions, then empty their heavy columns, batch by batch, oldest first.

    The row stays, with its suggestions, versions and answer. A run that was stopped continues when it is run again.
    Raises StorageDown; predictions moved until then stay moved.
    """
    outcome = Outcome()
    seen: set[Any] = set()
    start: datetime | None = None
    # Writing waits for the storage, not for the processor, so that threads help.
    with ThreadPoolExecutor(THREADS) as threads:
        while batch := _next(before, start, seen):
            kept = [row.pk for row, is_safe in zip(batch, threads.map(_archive_vectors, batch), strict=True) if is_safe]
            # Filtered again: a row that changed since it was read is due for the archive and must keep its columns.
            outcome.moved += slimmable(before).filter(pk__in=kept).order_by().update(**MOVED)
            outcome.missing += len(batch) - len(kept)
            start, seen = batch[-1].created_at, {row.pk for row in batch}
            progress(outcome)
    return outcome


def _next(before: datetime, start: datetime | None, seen: set[Any]) -> list[Prediction]:
    """Return the next rows in order of time, without those of the last batch that have the same time."""
    rows = slimmable(before).exclude(pk__in=seen)
    if start:
        rows = rows.filter(created_at__gte=start)
    return list(rows.only("pk", "created_at", *VECTORS)[:BATCH])


def _archive_vectors(prediction: Prediction) -> bool:
    """Write the vectors; return whether the rest of the archive is there, so that the columns may be emptied."""
    with storage_faults():
        if not storages["archive"].exists(writer.archive_path(prediction.pk, LAST_FILE)):
            return False
    content: dict[str, list[float] | None] = {}
    for modality, entry in MODALITIES.items():
        vector = getattr(prediction, entry.embedding_column)
        content[modality] = None if vector is None else [float(value) for value in vector]
    if any(content.values()):
        writer.write_file(prediction.pk, VECTORS_FILE, content)
    return True
