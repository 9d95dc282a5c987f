"""The stored photos of a batch, read and decoded side by side."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Event

from django.core.files.storage import default_storage
from PIL import Image, UnidentifiedImageError

from classifier.models import Prediction
from common.object_storage import StorageDown, storage_faults

READERS = 4


class UnreadablePhoto(Exception):
    """The stored photo can't be decoded; trying again won't help."""


def read_photos(predictions: Sequence[Prediction]) -> list[Image.Image | Exception | None]:
    """Return each prediction's photo, None where it has none, or why it can't be had.

    That is StorageDown, UnreadablePhoto or FileNotFoundError. A storage that is down is not waited for once more for
    every row.
    """
    is_down = Event()

    def read(prediction: Prediction) -> Image.Image | Exception | None:
        if not prediction.photo_small:
            return None
        if is_down.is_set():
            return StorageDown("the storage is down")
        try:
            return _open(prediction.photo_small)
        except StorageDown as error:
            is_down.set()
            return error
        except (UnreadablePhoto, FileNotFoundError) as error:
            return error

    return list(_readers().map(read, predictions)) if len(predictions) > 1 else [read(each) for each in predictions]


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, thread_name_prefix="photos")


def _open(name: str) -> Image.Image:
    with storage_faults(), default_storage.open(name) as file:
        content = file.read()
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnreadablePhoto from error
