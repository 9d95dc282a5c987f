"""Keep the ledger: erasures as files in the storage "private", so that they survive restoring a backup.

`erasures/<id>/request.json` holds the account's number and the state; `erasures/<id>/000001.json` and so on list the
ids that each batch deletes, and are written before anything is deleted. No file identifies a person.
"""

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import storages

from common.object_storage import storage_faults
from feedback.models import Erasure, ErasureBatch

FOLDER = "erasures"
REQUEST = "request.json"
TIMES = ("joined_at", "asked_at", "due_at", "started_at", "finished_at")
PLAIN = ("account", "via", "asked_by", "cancelled_by", "state", "counts")


def write_request(erasure: Erasure) -> None:
    """Write the state of an erasure. Raises StorageDown."""
    content = {name: getattr(erasure, name) for name in PLAIN}
    content |= {name: moment and moment.isoformat() for name in TIMES for moment in [getattr(erasure, name)]}
    _write(f"{FOLDER}/{erasure.pk}/{REQUEST}", content)


def write_batch(batch: ErasureBatch) -> None:
    """Write the ids that a batch is about to delete. Raises StorageDown."""
    content = {"predictions": list(map(str, batch.predictions)), "photos": batch.photos}
    _write(f"{FOLDER}/{batch.erasure_id}/{batch.number:06}.json", content)


def read_requests() -> Iterator[Erasure]:
    """Yield the ledger's erasures as unsaved rows. Raises StorageDown, and ValueError for a damaged file."""
    for name in _folders(FOLDER):
        content = _read(f"{FOLDER}/{name}/{REQUEST}")
        if content is not None:
            times = {time: value and datetime.fromisoformat(value) for time in TIMES for value in [content[time]]}
            plain = {field: content[field] for field in PLAIN}
            yield Erasure(pk=uuid.UUID(name), is_in_ledger=True, **plain, **times)


def read_batches(erasure: uuid.UUID) -> Iterator[ErasureBatch]:
    """Yield an erasure's batches as unsaved rows. Raises StorageDown."""
    for name in sorted(_files(f"{FOLDER}/{erasure}")):
        number = name.removesuffix(".json")
        if number.isdigit() and (content := _read(f"{FOLDER}/{erasure}/{name}")) is not None:
            ids = [uuid.UUID(key) for key in content["predictions"]]
            yield ErasureBatch(erasure_id=erasure, number=int(number), predictions=ids, photos=content["photos"])


def _write(name: str, content: dict[str, Any]) -> None:
    with storage_faults():
        storages["private"].save(name, ContentFile(json.dumps(content, indent=1).encode()))


def _read(name: str) -> dict[str, Any] | None:
    try:
        with storage_faults(), storages["private"].open(name) as file:
            content: dict[str, Any] = json.loads(file.read())
    except FileNotFoundError:
        return None
    return content


def _folders(name: str) -> list[str]:
    return _listed(name)[0]


def _files(name: str) -> list[str]:
    return _listed(name)[1]


def _listed(name: str) -> tuple[list[str], list[str]]:
    with storage_faults():
        try:
            folders, files = storages["private"].listdir(name)
        except FileNotFoundError:
            return [], []
    return list(folders), list(files)
