"""Remove erased sellers' products from snapshots and examples.

Erasures are read from their batches (`feedback.models`). An immutable snapshot is changed for this reason alone: it is
written again without the rows, gets the checksum of its new manifest, and the manifest says how many rows were removed
and what the checksum was.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from django.core.files.storage import storages
from django.utils import timezone

from common.locks import Lock, hold_lock
from common.object_storage import storage_faults
from feedback.models import ErasureBatch
from training.datasets import example_erasure, snapshot_storage
from training.datasets.corpus import MANIFEST, CorpusError, CorpusRow, manifest_bytes, manifest_checksum, write_corpus
from training.datasets.manifest_codes import ExclusionReason, read_exclusions
from training.models import FEEDBACK, SNAPSHOTS, Dataset, TrainingRun

log = logging.getLogger(__name__)

BATCHES_AT_ONCE = 250  # of erasures: 50,000 predictions
ROWS_AT_ONCE = 500
COLUMNS_TO_CHECK = ["source", "id", "label", "photo_digest"]
EARLIER_CHECKSUM = "cut_from"


def remove_erased_rows() -> int:
    """Delete examples and snapshot rows of erased predictions; return how many batches are finished.

    A snapshot that a run reads is changed after the run. Raises StorageDown; what was done until then stays done.
    """
    waiting = ErasureBatch.objects.filter(forgotten_at=None, done_at__isnull=False).order_by("erasure", "number")
    done = 0
    with hold_lock(Lock.TRAINING_DATA):
        while batches := list(waiting[:BATCHES_AT_ONCE]):
            erased = {str(pk) for batch in batches for pk in batch.predictions}
            example_erasure.delete_examples_of_predictions(erased)
            # Every snapshot is tried, also after one that has to wait.
            are_done = [_remove_rows(dataset, erased) for dataset in Dataset.objects.all()]
            if not all(are_done):
                break
            _delete_orphans()
            done += ErasureBatch.objects.filter(pk__in=[batch.pk for batch in batches]).update(
                forgotten_at=timezone.now()
            )
    return done


def _remove_rows(dataset: Dataset, erased: Set[str]) -> bool:
    """Write a snapshot again without the erased rows; return False when it has to wait for a run."""
    if not dataset.manifest["sources"].get(FEEDBACK):
        return True
    # A running fit reads the shards, and its checksum is in the lineage of the version that it registers.
    if TrainingRun.objects.active().filter(dataset=dataset).exists():
        return False
    try:
        files = snapshot_storage.fetch_corpus(dataset).folder
    except CorpusError as error:
        # Without room on the disk the snapshot may still be good: the erasure is tried again.
        if error.__cause__:
            raise
        log.error("%s can't be read, so it is withdrawn: %s", dataset, error)
        _withdraw(dataset, 0)
        return True
    remaining = _count_remaining(files, dataset.manifest, erased)
    if not remaining.erased:
        return True
    learnable = {label for label, split in remaining.rows if split == "train"}
    exclusions = read_exclusions(dataset.manifest)
    exclusions[ExclusionReason.ERASED] += remaining.erased
    # A category without a training row can't stay in the other splits either.
    exclusions[ExclusionReason.NO_TRAINING_ROW] += sum(
        count for (label, _split), count in remaining.rows.items() if label not in learnable
    )
    with snapshot_storage.staging_folder() as folder:
        try:
            rows = _kept_rows(files, dataset.manifest, erased, learnable)
            manifest = write_corpus(rows, folder, exclusions=exclusions)
        except CorpusError:
            _withdraw(dataset, remaining.erased)
            example_erasure.delete_unused_photos(remaining.photos)
            return True
        manifest[EARLIER_CHECKSUM] = dataset.checksum
        (folder / MANIFEST).write_bytes(manifest_bytes(manifest))
        snapshot_storage.upload_snapshot(folder, Dataset(checksum=manifest_checksum(manifest), manifest=manifest))
    _replace(dataset, manifest)
    example_erasure.delete_unused_photos(remaining.photos)
    return True


def _replace(dataset: Dataset, manifest: dict[str, Any]) -> None:
    """Point the row to its new snapshot. `_delete_orphans` deletes the old files."""
    # The description quotes titles, maybe of erased products, so it is dropped.
    Dataset.objects.filter(pk=dataset.pk).update(
        checksum=manifest_checksum(manifest), manifest=manifest, description=None
    )
    shutil.rmtree(snapshot_storage.local_folder(dataset), ignore_errors=True)


def _withdraw(dataset: Dataset, erased: int) -> None:
    """Empty a snapshot that is damaged or that no model can learn from any more; its row stays."""
    exclusions = read_exclusions(dataset.manifest)
    exclusions[ExclusionReason.ERASED] += erased
    empty = {"rows": 0, "with_text": 0, "with_photo": 0}
    manifest = {
        **dataset.manifest,
        "shards": [],
        "classes": {},
        "splits": dict.fromkeys(dataset.manifest["splits"], empty),
        "sources": {},
        "exclusions": {reason: count for reason, count in sorted(exclusions.items()) if count},
        EARLIER_CHECKSUM: dataset.checksum,
    }
    _replace(dataset, manifest)


@dataclass
class _Remaining:
    """The rows that each label keeps in each split, how many rows are erased, and the checksums of their photos."""

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    erased: int = 0
    photos: set[str] = field(default_factory=set)


def _count_remaining(folder: Path, manifest: dict[str, Any], erased: Set[str]) -> _Remaining:
    remaining = _Remaining()
    for shard in manifest["shards"]:
        table = pq.read_table(folder / shard["name"], columns=COLUMNS_TO_CHECK)
        for source, id, label, digest in zip(*(table[name].to_pylist() for name in COLUMNS_TO_CHECK), strict=True):
            if source == FEEDBACK and id in erased:
                remaining.erased += 1
                remaining.photos |= {digest} - {""}
            else:
                remaining.rows[label, shard["split"]] += 1
    return remaining


def _kept_rows(folder: Path, manifest: dict[str, Any], erased: Set[str], learnable: Set[str]) -> Iterator[CorpusRow]:
    for shard in manifest["shards"]:
        for batch in pq.ParquetFile(folder / shard["name"]).iter_batches(batch_size=ROWS_AT_ONCE):
            for cells in batch.to_pylist():
                is_erased = cells["source"] == FEEDBACK and cells["id"] in erased
                if not is_erased and cells["label"] in learnable:
                    yield CorpusRow(**cells, split=shard["split"])


def _delete_orphans() -> None:
    """Delete the files of snapshots that no row names: a killed process or an erasure left them."""
    storage = storages["datasets"]
    with storage_faults():
        try:
            found = storage.listdir(SNAPSHOTS)[0]
        except FileNotFoundError:
            return
        known = set(Dataset.objects.filter(checksum__in=found).values_list("checksum", flat=True))
        for name in set(found) - known:
            for file in storage.listdir(f"{SNAPSHOTS}/{name}")[1]:
                storage.delete(f"{SNAPSHOTS}/{name}/{file}")
            storage.delete(f"{SNAPSHOTS}/{name}")
