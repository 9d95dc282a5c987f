"""Read and decode the stored photos of a batch in parallel."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Event

from django.core.files.storage import default_storage
from PIL import Image, UnidentifiedImageError

from classifier.models import Prediction
from common.object_storage import StorageDown, storage_faults

THREADS = 4


class UnreadablePhoto(Exception):
    """The stored photo can't be decoded; trying again won't help."""


def read_photos(predictions: Sequence[Prediction]) -> list[Image.Image | Exception | None]:
    """Return each prediction's photo, None where it has none, or the error that reading it raised.

    That is StorageDown, UnreadablePhoto or FileNotFoundError.
    """
    # The first row that finds the storage down spares the others its timeout.
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

    if len(predictions) > 1:
        return list(_readers().map(read, predictions))
    return [read(prediction) for prediction in predictions]


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="photos")


def _open(name: str) -> Image.Image:
    with storage_faults(), default_storage.open(name) as file:
        content = file.read()
    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    # What Pillow raises for broken files, depending on the format.
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UnreadablePhoto from error
