"""Store snapshots in object storage, and fetch verified local copies of them."""

import errno
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils.translation import gettext as _

from common.object_storage import StorageDown, storage_faults
from training.datasets.corpus import MANIFEST, Corpus, CorpusError, manifest_bytes, verify_shard
from training.models import Dataset

COPY_BYTES = 1 << 20
ABANDONED_SECONDS = 86_400  # after which an unfinished folder is no longer another process's work


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
                    shutil.copyfileobj(file, copy, COPY_BYTES)
            except FileNotFoundError:
                raise CorpusError(_("The shard %s is missing from the storage.") % shard["name"]) from None
            verify_shard(folder / shard["name"], shard)
        (folder / MANIFEST).write_bytes(manifest_bytes(dataset.manifest))
        corpus = Corpus(folder)
        if corpus.checksum != dataset.checksum:
            raise CorpusError(_("The manifest of %s is damaged: its checksum is not the dataset's.") % dataset)
        publish_local_copy(folder, dataset)
    return Corpus(target)


def upload_snapshot(folder: Path, dataset: Dataset) -> None:
    """Upload the shards, and the manifest last: a snapshot without one is unfinished."""
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
    """Return where a dataset's local copy lies."""
    return Path(settings.DATASET_CACHE) / dataset.checksum


def publish_local_copy(folder: Path, dataset: Dataset) -> None:
    """Move a whole copy to where it is looked for, unless another process was quicker."""
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
    """Give a folder for unfinished work beside the local copies, and remove what is left in it after the block."""
    # In the same file system as its target, so that a copy is published by renaming its folder.
    cache = Path(settings.DATASET_CACHE)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for path in cache.glob(".making-*"):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
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
    """Return whether a full disk is the cause of an error of the file system or the storage."""
    causes = (error, error.__cause__)
    return any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for cause in causes)


def _is_whole(folder: Path, dataset: Dataset) -> bool:
    """Return whether a local copy, which was verified when it was fetched, still has all its files."""
    try:
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    except FileNotFoundError:
        return False
    return MANIFEST in sizes and all(sizes.get(s["name"]) == s["bytes"] for s in dataset.manifest["shards"])
