"""Publish artifacts in the storage "models", verify them there, and fetch verified local copies."""

import hashlib
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, storages
from filelock import FileLock

from classifier.ml import artifact
from classifier.ml.artifact import ArtifactError
from classifier.models import ModelVersion
from common.object_storage import storage_faults

CHUNK = 1 << 20


def publish_artifact(folder: Path, version: ModelVersion) -> None:
    """Write the folder's files to the storage and verify them. Raises ArtifactError when one is stored changed."""
    storage = storages["models"]
    manifest = (folder / artifact.MANIFEST).read_bytes()
    files: dict[str, str] = json.loads(manifest)["files"]
    _delete_others(storage, version.path, {*files, artifact.MANIFEST})
    for name, digest in files.items():
        path = f"{version.path}/{name}"
        # A file that is there with the right content stays: a worker may be reading it.
        if _stored_digest(storage, path) != digest:
            with (folder / name).open("rb") as file:
                _save(storage, path, File(file))
        if _stored_digest(storage, path) != digest:
            raise ArtifactError(f"{name}: the storage returns other content than was written")
    # The manifest comes last: it makes the stored folder complete, and an interrupted attempt must not look complete.
    path = f"{version.path}/{artifact.MANIFEST}"
    if _stored(storage, path) != manifest:
        _save(storage, path, ContentFile(manifest))
    verify_stored(version)


def verify_stored(version: ModelVersion) -> None:
    """Hash the version's files in the storage. Raises ArtifactError when one is missing or changed, and StorageDown."""
    storage = storages["models"]
    manifest = _stored(storage, f"{version.path}/{artifact.MANIFEST}")
    if manifest is None or hashlib.sha256(manifest).hexdigest() != version.checksum:
        raise ArtifactError(f"{artifact.MANIFEST}: missing or changed in the storage of {version}")
    files: dict[str, str] = json.loads(manifest)["files"]
    for name, digest in files.items():
        if _stored_digest(storage, f"{version.path}/{name}") != digest:
            raise ArtifactError(f"{name}: missing or changed in the storage of {version}")


def read_stored_config(version: ModelVersion) -> dict[str, Any]:
    """Return the version's stored config.json. Raises ArtifactError when it is missing or unusable, and StorageDown."""
    content = _stored(storages["models"], f"{version.path}/{artifact.CONFIG}")
    try:
        config = json.loads(content or b"")
        labels = config["labels"]
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{artifact.CONFIG}: missing or unusable in the storage of {version}") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ArtifactError(f"{artifact.CONFIG}: labels must be a list of category slugs in the storage of {version}")
    return dict(config)


def fetch_artifact(path: str, checksum: str) -> Path:
    """Return a verified local copy of the artifact at `path` in the storage "models".

    A damaged copy is fetched again. Raises ArtifactError when the stored artifact is damaged or missing, and
    StorageDown.
    """
    folder = Path(settings.MODEL_CACHE / path)
    if _is_good(folder, checksum):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Checked again under the lock: another process may have downloaded it while this one waited.
    with FileLock(folder.parent / f".{folder.name}.lock"):  # the machine's other processes wait for this copy
        if not _is_good(folder, checksum):
            shutil.rmtree(folder, ignore_errors=True)
            _download(path, checksum, folder)
    return folder


def _is_good(folder: Path, checksum: str) -> bool:
    try:
        artifact.verify_artifact(folder, checksum)
    except (ArtifactError, OSError):  # also while another process replaces it
        return False
    return True


def _download(path: str, checksum: str, folder: Path) -> None:
    """Download and verify the stored artifact beside `folder`, then rename it: readers never see half a folder."""
    storage = storages["models"]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as temporary:
        fresh = Path(temporary) / "artifact"
        fresh.mkdir()
        try:
            with storage_faults():
                for name in storage.listdir(path)[1]:
                    with storage.open(f"{path}/{name}") as stored, (fresh / Path(name).name).open("wb") as file:
                        shutil.copyfileobj(stored, file, CHUNK)
        except FileNotFoundError as error:
            raise ArtifactError(f"{path}: missing from the storage") from error
        artifact.verify_artifact(fresh, checksum)
        fresh.rename(folder)


def _save(storage: Storage, path: str, content: "File[bytes]") -> None:
    with storage_faults():
        if storage.save(path, content) != path:  # a storage that never overwrites has chosen another name
            raise ArtifactError(f"{path}: the storage holds a leftover that it does not overwrite")


def _delete_others(storage: Storage, path: str, names: set[str]) -> None:
    with suppress(FileNotFoundError), storage_faults():
        for name in storage.listdir(path)[1]:
            if name not in names:
                storage.delete(f"{path}/{name}")


def _stored(storage: Storage, path: str) -> bytes | None:
    try:
        with storage_faults(), storage.open(path) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None


def _stored_digest(storage: Storage, path: str) -> str | None:
    """Return the SHA-256 of a stored file, read in pieces, or None when there is none."""
    digest = hashlib.sha256()
    try:
        with storage_faults(), storage.open(path) as file:
            for chunk in file.chunks(CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        return None
    return digest.hexdigest()
