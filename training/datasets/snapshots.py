"""Make datasets: immutable snapshots of the examples."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.core.files.storage import storages
from django.db.models import F, QuerySet, TextField, Value, Window
from django.db.models.functions import MD5, Concat, RowNumber
from django.utils.translation import gettext as _

from common.locks import Lock, hold_lock
from common.object_storage import storage_faults
from training.datasets.corpus import (
    MANIFEST,
    CorpusError,
    CorpusRow,
    manifest_bytes,
    manifest_checksum,
    write_corpus,
)
from training.datasets.feedback_examples import absorb_feedback_locked
from training.datasets.manifest_codes import ExclusionReason, read_exclusions
from training.datasets.snapshot_storage import publish_local_copy, staging_folder, upload_snapshot
from training.models import FEEDBACK, Dataset, Example, ExampleQuerySet, Split

ROWS_AT_ONCE = 500

Progress = Callable[[int, int], None]


def make_dataset(*, sources: Sequence[str] = (), progress: Progress = lambda done, total: None) -> Dataset:
    """Return a dataset of all examples, or of some sources: an earlier one if nothing has changed since.

    Accepted answers become examples first, and examples of answers that are no longer accepted are deleted. Raises
    CorpusError for examples that no model can learn from, for no room on the disk, and for an unknown source;
    StorageDown.
    """
    return find_or_make_dataset(sources=sources, progress=progress)[0]


def find_or_make_dataset(
    *, sources: Sequence[str] = (), progress: Progress = lambda done, total: None
) -> tuple[Dataset, bool]:
    """Do what `make_dataset` says; return the dataset and whether it is new."""
    with hold_lock(Lock.TRAINING_DATA):
        exclusions = absorb_feedback_locked()
        examples = Example.objects.all()
        if sources:
            _check_sources(sources)
            examples = examples.filter(source__in=sources)
            if FEEDBACK not in sources:
                exclusions.clear()
        return _snapshot(examples, exclusions, progress)


def _check_sources(sources: Sequence[str]) -> None:
    known = set(Example.objects.values_list("source", flat=True).distinct())
    if unknown := sorted(set(sources) - known):
        raise CorpusError(
            _("There are no examples of %(unknown)s. There are: %(known)s.")
            % {"unknown": ", ".join(unknown), "known": ", ".join(sorted(known)) or "–"}
        )


def _snapshot(examples: ExampleQuerySet, feedback_exclusions: Counter[str], progress: Progress) -> tuple[Dataset, bool]:
    exclusions = Counter(feedback_exclusions)
    usable = examples.usable()
    exclusions[ExclusionReason.SIMILAR_TO_TWO_SPLITS] = examples.filter(split=Split.BRIDGE).count()
    inactive = examples.in_a_split().filter(category__is_active=False)
    exclusions[ExclusionReason.INACTIVE_CATEGORY] = inactive.count()
    rows = _without_duplicates(usable)
    counts = _count_rows(rows)
    learnable = {category for category, split in counts if split == Split.TRAIN}
    exclusions[ExclusionReason.DUPLICATE] = usable.count() - counts.total()
    for (category, _split), count in counts.items():
        if category not in learnable:
            exclusions[ExclusionReason.NO_TRAINING_ROW] += count
    total = counts.total() - exclusions[ExclusionReason.NO_TRAINING_ROW]
    reader = _RowReader(rows, learnable, total, progress)
    with staging_folder() as folder:
        manifest = write_corpus(reader.read(), folder, exclusions={})
        # Which photos are unreadable is known only when all rows are written.
        exclusions[ExclusionReason.PHOTO_UNREADABLE] += reader.unreadable_photos
        manifest["exclusions"] = {str(reason): count for reason, count in sorted(exclusions.items()) if count}
        (folder / MANIFEST).write_bytes(manifest_bytes(manifest))
        if found := _find_equal(manifest):
            return found, False
        dataset = Dataset(checksum=manifest_checksum(manifest), manifest=manifest)
        upload_snapshot(folder, dataset)
        publish_local_copy(folder, dataset)
    return Dataset.objects.get_or_create(checksum=dataset.checksum, defaults={"manifest": manifest})


def _find_equal(manifest: dict[str, Any]) -> Dataset | None:
    """Return the dataset with the same content, if there is one."""
    if found := Dataset.objects.filter(checksum=manifest_checksum(manifest)).first():
        return found
    # A manifest of an older version names the reasons in words, so its checksum differs.
    for dataset in Dataset.objects.filter(manifest__shards=manifest["shards"]):
        if read_exclusions(dataset.manifest) == manifest["exclusions"]:
            return dataset
    return None


def _without_duplicates(examples: QuerySet[Example]) -> QuerySet[Example]:
    """Return the examples without those that equal another one in everything that models learn from.

    Their order is random but stable, so that a stream of them is mixed.
    """
    learnt_fields = ("title", Value("\x1f"), "description", Value("\x1f"), "photo_digest")
    content = MD5(Concat(*learnt_fields, output_field=TextField()))
    order = MD5(Concat("source", Value("/"), "external_id", output_field=TextField()))
    copy_number = Window(RowNumber(), partition_by=[content, F("category")], order_by=["source", "external_id"])
    return examples.annotate(copy_number=copy_number, order=order).filter(copy_number=1).order_by("order", "pk")


def _count_rows(rows: QuerySet[Example]) -> Counter[tuple[int, str]]:
    """Count the rows of each category and split."""
    counts: Counter[tuple[int, str]] = Counter()
    for category, split in rows.values_list("category_id", "split").iterator(chunk_size=10_000):
        counts[category, split] += 1
    return counts


class _RowReader:
    """Reads examples with their photos; counts those whose photo is missing or damaged."""

    def __init__(self, rows: QuerySet[Example], learnable: set[int], total: int, progress: Progress) -> None:
        self.rows, self.learnable, self.total, self.progress = rows, learnable, total, progress
        self.unreadable_photos = 0

    def read(self) -> Iterator[CorpusRow]:
        """Yield the rows of learnable categories."""
        rows = self.rows.select_related("category").defer("bands")
        for done, example in enumerate(rows.iterator(chunk_size=ROWS_AT_ONCE)):
            if example.category_id not in self.learnable:
                continue
            photo = _read_photo(example) if example.photo else None
            if example.photo and photo is None:
                self.unreadable_photos += 1
                continue
            yield CorpusRow(
                source=example.source,
                id=example.external_id,
                title=example.title,
                description=example.description,
                label=example.category.slug,
                photo=photo,
                photo_digest=example.photo_digest,
                split=example.split,
            )
            if done % 100 == 0:
                self.progress(done, self.total)
        self.progress(self.total, self.total)


def _read_photo(example: Example) -> bytes | None:
    """Return the photo's file; None when it is missing or damaged."""
    try:
        with storage_faults(), storages["datasets"].open(example.photo) as file:
            photo: bytes = file.read()
    except FileNotFoundError:
        return None
    return photo if hashlib.sha256(photo).hexdigest() == example.photo_digest else None
