"""Datasets: immutable snapshots of the examples, made here, kept in object storage, fetched and verified."""

import errno
import hashlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage, storages
from django.db.models import Count, Exists, F, OuterRef, QuerySet, TextField, Value, Window
from django.db.models.functions import MD5, Cast, Concat, RowNumber
from django.utils.translation import gettext as _

from common.locks import Lock, hold_lock
from common.object_storage import StorageDown, storage_faults
from feedback.models import PREDICTIONS_VECTORS, Feedback
from feedback.models.answers import TRUSTED
from training.datasets import example_erasure
from training.datasets.corpus import (
    MANIFEST,
    Corpus,
    CorpusError,
    CorpusRow,
    manifest_bytes,
    manifest_checksum,
    verify_shard,
    write_corpus,
)
from training.datasets.examples import IncomingExample, delete_examples, store_examples
from training.datasets.importing import store_photo
from training.models import FEEDBACK, Dataset, Example, Split

ROWS_AT_ONCE = 500
OLD = 86_400  # seconds after which a half-made folder is nobody's any more

Progress = Callable[[int, int], None]


def make_dataset(*, sources: Sequence[str] = (), progress: Progress = lambda done, total: None) -> Dataset:
    """Return a dataset of all examples, or of some sources: an earlier one if nothing changed since.

    Accepted feedback comes in first, and what isn't accepted any more goes. Raises CorpusError for examples that
    nothing can be learnt from, for no room on the disk, and for a source that there isn't; StorageDown.
    """
    return find_or_make_dataset(sources=sources, progress=progress)[0]


def find_or_make_dataset(
    *, sources: Sequence[str] = (), progress: Progress = lambda done, total: None
) -> tuple[Dataset, bool]:
    """Do what `make_dataset` says; return the dataset and whether it is new."""
    with hold_lock(Lock.TRAINING_DATA):
        return _snapshot(sources, progress)


def _snapshot(sources: Sequence[str], progress: Progress) -> tuple[Dataset, bool]:
    exclusions = _absorb()
    examples = Example.objects.all()
    if sources:
        known = set(Example.objects.values_list("source", flat=True).distinct())
        if unknown := sorted(set(sources) - known):
            raise CorpusError(
                _("There are no examples of %(unknown)s. There are: %(known)s.")
                % {"unknown": ", ".join(unknown), "known": ", ".join(sorted(known)) or "–"}
            )
        examples = examples.filter(source__in=sources)
        if FEEDBACK not in sources:
            exclusions.clear()
    exclusions["alike to products of two parts"] = examples.filter(split=Split.BRIDGE).count()
    exclusions["category switched off"] = examples.in_a_split().filter(category__is_active=False).count()
    usable = examples.usable()
    rows = _without_twins(usable)
    learnable, total = _count(rows, exclusions)
    exclusions["the same as another example"] = usable.count() - total
    total -= exclusions["no training row in its category"]
    with staging_folder() as folder:
        manifest = write_corpus(_rows(rows, learnable, total, exclusions, progress), folder, exclusions={})
        # Photos that are gone are found while the rows are written.
        manifest["exclusions"] = {reason: count for reason, count in sorted(exclusions.items()) if count}
        (folder / MANIFEST).write_bytes(manifest_bytes(manifest))
        found = Dataset.objects.filter(checksum=manifest_checksum(manifest)).first()
        if found:
            return found, False
        dataset = Dataset(checksum=manifest_checksum(manifest), manifest=manifest)
        upload_snapshot(folder, dataset)
        _publish(folder, dataset)
    return Dataset.objects.get_or_create(checksum=dataset.checksum, defaults={"manifest": manifest})


def fetch_corpus(dataset: Dataset) -> Corpus:
    """Return the dataset's local copy, downloaded and verified where it isn't there yet.

    Raises CorpusError for a shard that is missing, damaged, or for which there is no room, and for a dataset of which
    erasures left nothing; StorageDown.
    """
    if not dataset.manifest["shards"]:
        raise CorpusError(_("Nothing is left of %s: its products were erased.") % dataset)
    target = local_folder(dataset)
    if _is_whole(target, dataset):
        return Corpus(target)
    storage = storages["datasets"]
    with staging_folder() as folder:
        for shard in dataset.manifest["shards"]:
            try:
                with (
                    storage_faults(),
                    storage.open(f"{dataset.path}/{shard['name']}") as file,
                    (folder / shard["name"]).open("wb") as copy,
                ):
                    shutil.copyfileobj(file, copy, 1 << 20)
            except FileNotFoundError:
                raise CorpusError(_("The shard %s is missing from the storage.") % shard["name"]) from None
            verify_shard(folder / shard["name"], shard)
        (folder / MANIFEST).write_bytes(manifest_bytes(dataset.manifest))
        corpus = Corpus(folder)
        if corpus.checksum != dataset.checksum:
            raise CorpusError(_("The manifest of %s is damaged: its checksum is not the dataset's.") % dataset)
        _publish(folder, dataset)
    return Corpus(target)


def absorb_feedback() -> Counter[str]:
    """Make accepted and corrected feedback into examples, and drop the examples of what isn't any more.

    Return for each reason how many answers that name a category stay out.
    """
    with hold_lock(Lock.TRAINING_DATA):
        return _absorb()


def _absorb() -> Counter[str]:
    left_out: Counter[str] = Counter()
    trusted = Feedback.objects.trusted().select_related("prediction").defer(*PREDICTIONS_VECTORS)
    answers = trusted.order_by("pk").iterator(chunk_size=ROWS_AT_ONCE)
    while batch := list(islice(answers, ROWS_AT_ONCE)):
        photos = _photos(batch)
        found = [_incoming(feedback, *photos.get(str(feedback.prediction_id), ("", ""))) for feedback in batch]
        if rows := [row for row in found if row]:
            store_examples(source=FEEDBACK, rows=rows)
        left_out["feedback: photo is gone"] += len(found) - len(rows)
    example_erasure.delete_pending_examples()  # before it is dropped below, where its photo would stay
    answered = Feedback.objects.trusted().annotate(key=Cast("prediction_id", TextField()))
    gone = Example.objects.filter(~Exists(answered.filter(key=OuterRef("external_id"))), source=FEEDBACK)
    while some := list(gone.only("pk", "external_id", "title_key", "bands")[:ROWS_AT_ONCE]):
        delete_examples(some)
    reviews = Feedback.objects.filter(category__isnull=False).exclude(review__in=TRUSTED)
    for review, count in reviews.order_by().values_list("review").annotate(Count("pk")):
        left_out[f"feedback: {Feedback.Review(review).label.lower()}"] += count
    if doubted := Feedback.objects.doubted().count():
        left_out["feedback: its seller has a fraud case"] = doubted
    return left_out


def _photos(batch: Sequence[Feedback]) -> dict[str, tuple[str, str]]:
    """Return name and checksum of the photos that were copied earlier, by the examples' ids."""
    known = Example.objects.filter(source=FEEDBACK, external_id__in=[str(answer.prediction_id) for answer in batch])
    return {id: (photo, digest) for id, photo, digest in known.values_list("external_id", "photo", "photo_digest")}


def _incoming(feedback: Feedback, photo: str, digest: str) -> IncomingExample | None:
    """Return the product as an example; None when its photo is gone and there is no text."""
    prediction = feedback.prediction
    id = str(prediction.pk)
    category = feedback.correction_id or feedback.category_id
    assert category  # noqa: S101 - what `trusted` says
    # A prediction's photo never changes, so what was copied once is not read again.
    if prediction.photo_small and not photo:
        try:
            with storage_faults(), default_storage.open(prediction.photo_small) as file:
                photo, digest = store_photo(file.read())
        except FileNotFoundError:
            if not prediction.has_text:
                return None
    return IncomingExample(id, prediction.title, prediction.description, category, photo, digest, digest)


def _without_twins(examples: QuerySet[Example]) -> QuerySet[Example]:
    """Return the examples without those that are the same as another in everything that is learnt from.

    Their order is random but stable, so that a stream of them is mixed.
    """
    parts = ("title", Value("\x1f"), "description", Value("\x1f"), "photo_digest")
    content = MD5(Concat(*parts, output_field=TextField()))
    order = MD5(Concat("source", Value("/"), "external_id", output_field=TextField()))
    return (
        examples.annotate(
            twin=Window(RowNumber(), partition_by=[content, F("category")], order_by=["source", "external_id"]),
            order=order,
        )
        .filter(twin=1)
        .order_by("order", "pk")
    )


def _count(rows: QuerySet[Example], exclusions: Counter[str]) -> tuple[set[int], int]:
    """Return the categories with a training row, and the number of rows; count those that can't be learnt."""
    counts: Counter[tuple[int, str]] = Counter()
    for category, split in rows.values_list("category_id", "split").iterator(chunk_size=10_000):
        counts[category, split] += 1
    learnable = {category for category, split in counts if split == Split.TRAIN}
    exclusions["no training row in its category"] = sum(
        count for (category, _split), count in counts.items() if category not in learnable
    )
    return learnable, counts.total()


def _rows(
    rows: QuerySet[Example], learnable: set[int], total: int, exclusions: Counter[str], progress: Progress
) -> Iterator[CorpusRow]:
    storage = storages["datasets"]
    wanted = rows.select_related("category").defer("bands")
    for done, example in enumerate(wanted.iterator(chunk_size=ROWS_AT_ONCE)):
        if example.category_id not in learnable:
            continue
        photo = None
        if example.photo:
            try:
                with storage_faults(), storage.open(example.photo) as file:
                    photo = file.read()
            except FileNotFoundError:
                photo = None
            if photo is not None and hashlib.sha256(photo).hexdigest() != example.photo_digest:
                photo = None
            if photo is None:
                exclusions["photo is missing or damaged"] += 1
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
            progress(done, total)
    progress(total, total)


def upload_snapshot(folder: Path, dataset: Dataset) -> None:
    """Store the shards, and the manifest last: a snapshot without one is nobody's."""
    storage = storages["datasets"]
    with storage_faults():
        for shard in dataset.manifest["shards"]:
            name = f"{dataset.path}/{shard['name']}"
            with (folder / shard["name"]).open("rb") as file:
                storage.save(name, File(file))
            if storage.size(name) != shard["bytes"]:
                raise OSError(errno.EIO, "the storage kept another size")
        storage.save(f"{dataset.path}/{MANIFEST}", ContentFile(manifest_bytes(dataset.manifest)))


def local_folder(dataset: Dataset) -> Path:
    return Path(settings.DATASET_CACHE) / dataset.checksum


def _is_whole(folder: Path, dataset: Dataset) -> bool:
    """Whether a local copy, verified when it was fetched, still has all its files."""
    try:
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    except FileNotFoundError:
        return False
    return MANIFEST in sizes and all(sizes.get(s["name"]) == s["bytes"] for s in dataset.manifest["shards"])


def _publish(folder: Path, dataset: Dataset) -> None:
    """Put a whole copy where it is looked for, unless another process was quicker."""
    target = local_folder(dataset)
    if not _is_whole(target, dataset):
        shutil.rmtree(target, ignore_errors=True)
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


@contextmanager
def staging_folder() -> Iterator[Path]:
    """Give a folder to make something in beside where it will lie; what is left in it goes."""
    cache = Path(settings.DATASET_CACHE)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for left in cache.glob(".making-*"):
            if time.time() - left.stat().st_mtime > OLD:
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=".making-", dir=cache))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, StorageDown) as error:
        if is_disk_full(error):
            raise CorpusError(
                _("There is no room for the dataset on the disk (%s) or in the storage. Make room and try again.")
                % cache
            ) from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk without room is behind an error of the file system or the storage."""
    return any(getattr(e, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for e in (error, error.__cause__))
