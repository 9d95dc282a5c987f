"""Erased sellers leave the snapshots and the examples: the training room's part of an erasure.

What was erased is read from the batches of erasures (`feedback.models`). An immutable snapshot is changed for this
alone: it is written anew without the rows, gets the checksum of what it is now, and its manifest says how many were cut
and what it was before.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from django.core.files.storage import storages
from django.utils import timezone

from common.locks import Lock, hold_lock
from common.object_storage import storage_faults
from feedback.models import ErasureBatch
from training.datasets import example_erasure, snapshots
from training.datasets.corpus import MANIFEST, CorpusError, CorpusRow, manifest_bytes, manifest_checksum, write_corpus
from training.models import FEEDBACK, SNAPSHOTS, Dataset, TrainingRun

log = logging.getLogger(__name__)

BATCHES_AT_ONCE = 250  # of erasures: 50,000 predictions
ROWS_AT_ONCE = 500
NAMES = ["source", "id", "label", "photo_digest"]
ERASED = "erased on request"
BEFORE = "cut_from"


def remove_erased_rows() -> int:
    """Drop examples and cut snapshots that erased predictions are in; return how many batches are done with.

    A snapshot that a run works on is cut after it. Raises StorageDown; what was done until then stays done.
    """
    waiting = ErasureBatch.objects.filter(forgotten_at=None, done_at__isnull=False).order_by("erasure", "number")
    done = 0
    with hold_lock(Lock.TRAINING_DATA):
        while batches := list(waiting[:BATCHES_AT_ONCE]):
            erased = {str(pk) for batch in batches for pk in batch.predictions}
            example_erasure.delete_examples_of_predictions(erased)
            are_cut = [_cut(dataset, erased) for dataset in Dataset.objects.all()]
            if not all(are_cut):
                break
            _delete_orphans()
            done += ErasureBatch.objects.filter(pk__in=[batch.pk for batch in batches]).update(
                forgotten_at=timezone.now()
            )
    return done


def _cut(dataset: Dataset, erased: Set[str]) -> bool:
    """Write a snapshot anew without the erased rows; False when it has to wait for a run."""
    if not dataset.manifest["sources"].get(FEEDBACK):
        return True
    if TrainingRun.objects.active().filter(dataset=dataset).exists():
        return False
    try:
        files = snapshots.fetch_corpus(dataset).folder
    except CorpusError as error:
        if error.__cause__:  # no room on the disk
            raise
        log.error("%s can't be read, so it is withdrawn: %s", dataset, error)
        _withdraw(dataset, 0)
        return True
    left, cut, photos = _what_is_left(files, dataset.manifest, erased)
    if not cut:
        return True
    learnable = {label for label, split in left if split == "train"}
    exclusions = Counter(dataset.manifest["exclusions"])
    exclusions[ERASED] += cut
    # A category that has no training row left can't stay in the other parts either.
    exclusions["no training row in its category"] += sum(n for (label, _s), n in left.items() if label not in learnable)
    with snapshots.staging_folder() as folder:
        try:
            rows = _rows(files, dataset.manifest, erased, learnable)
            manifest = write_corpus(rows, folder, exclusions=exclusions)
        except CorpusError:
            _withdraw(dataset, cut)
            example_erasure.delete_unused_photos(photos)
            return True
        manifest[BEFORE] = dataset.checksum
        (folder / MANIFEST).write_bytes(manifest_bytes(manifest))
        snapshots.upload_snapshot(folder, Dataset(checksum=manifest_checksum(manifest), manifest=manifest))
    _replace(dataset, manifest)
    example_erasure.delete_unused_photos(photos)
    return True


def _replace(dataset: Dataset, manifest: dict[str, Any]) -> None:
    """Let the row be what its snapshot is now. The files that it was go with the orphans."""
    # What describe_dataset found quotes titles.
    Dataset.objects.filter(pk=dataset.pk).update(
        checksum=manifest_checksum(manifest), manifest=manifest, description=None
    )
    shutil.rmtree(snapshots.local_folder(dataset), ignore_errors=True)


def _withdraw(dataset: Dataset, cut: int) -> None:
    """Leave of a snapshot that holds nothing to learn from any more, or that is damaged, its row only."""
    exclusions = Counter(dataset.manifest["exclusions"])
    exclusions[ERASED] += cut
    empty = {"rows": 0, "with_text": 0, "with_photo": 0}
    manifest = {
        **dataset.manifest,
        "shards": [],
        "classes": {},
        "splits": dict.fromkeys(dataset.manifest["splits"], empty),
        "sources": {},
        "exclusions": {reason: count for reason, count in sorted(exclusions.items()) if count},
        BEFORE: dataset.checksum,
    }
    _replace(dataset, manifest)


def _what_is_left(
    folder: Path, manifest: dict[str, Any], erased: Set[str]
) -> tuple[Counter[tuple[str, str]], int, set[str]]:
    """Return how many rows each label keeps in each split, how many are cut, and the checksums of their photos."""
    left: Counter[tuple[str, str]] = Counter()
    photos: set[str] = set()
    cut = 0
    for shard in manifest["shards"]:
        table = pq.read_table(folder / shard["name"], columns=NAMES)
        for source, id, label, digest in zip(*(table[name].to_pylist() for name in NAMES), strict=True):
            if source == FEEDBACK and id in erased:
                cut += 1
                photos |= {digest} - {""}
            else:
                left[label, shard["split"]] += 1
    return left, cut, photos


def _rows(folder: Path, manifest: dict[str, Any], erased: Set[str], learnable: Set[str]) -> Iterator[CorpusRow]:
    for shard in manifest["shards"]:
        for batch in pq.ParquetFile(folder / shard["name"]).iter_batches(batch_size=ROWS_AT_ONCE):
            for cells in batch.to_pylist():
                is_erased = cells["source"] == FEEDBACK and cells["id"] in erased
                if not is_erased and cells["label"] in learnable:
                    yield CorpusRow(**cells, split=shard["split"])


def _delete_orphans() -> None:
    """Delete the files of snapshots that no row names: what a killed process, or a cut, left."""
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
