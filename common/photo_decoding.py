"""Decode photos in the process's own pool of decoders, within the limits of the settings."""

import atexit
import os
import tempfile
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from django.conf import settings

from common.photos.decoder_pool import ORDINARY_BYTES, Copies, DecoderPool
from common.photos.headers import Fault, Header, PictureError, read_from_descriptor, read_header

LONGEST_TURN = 10.0  # seconds that a photo waits for its turn before it is rejected
WITHOUT_LIMIT = 3600.0


def photo_header(descriptor: int) -> Header:
    """Read an open file's header. Raises PictureError, also for a picture of too many pixels."""
    header = read_header(read_from_descriptor(descriptor), os.fstat(descriptor).st_size)
    if header.pixels > settings.UPLOAD_LIMIT_PIXELS:
        raise PictureError(Fault.TOO_MANY_PIXELS, f"{header.width} x {header.height} pixels")
    return header


def decode_upload(descriptor: int, header: Header, *, seller: Hashable, patience: float = LONGEST_TURN) -> Copies:
    """Decode a seller's photo in its turn. Raises PictureError, and NoTurn when too many others are waiting."""
    return upload_decoders().decode(descriptor, header, owner=seller, patience=min(patience, LONGEST_TURN))


def decode_trusted(content: bytes) -> Copies:
    """Decode a photo for a command such as an import. Raises PictureError.

    The limits are those of an upload, but all cores are used, and every photo is its own owner: none waits its turn.
    """
    with open_descriptor(content) as descriptor:
        header = photo_header(descriptor)
        return command_decoders().decode(descriptor, header, owner=object(), patience=WITHOUT_LIMIT)


@contextmanager
def open_descriptor(file: Any) -> Iterator[int]:
    """Yield a file descriptor of the content: the file's own, or that of a temporary copy. `file` may be bytes."""
    own = None if isinstance(file, bytes) else _own_descriptor(file)
    if own is not None:
        yield own
        return
    if not isinstance(file, bytes):
        file.seek(0)
        file = file.read()
    with tempfile.TemporaryFile() as copy:
        copy.write(file)
        copy.flush()
        yield copy.fileno()


def _own_descriptor(file: Any) -> int | None:
    try:
        file.flush()
        return int(file.fileno())
    except (AttributeError, OSError):  # it is in memory
        return None


def upload_decoders() -> DecoderPool:
    """Return the pool that decodes sellers' photos in this process."""
    return _pool("uploads", settings.DECODERS)


def command_decoders() -> DecoderPool:
    """Return the pool of a command, which may use all cores."""
    return _pool("commands", max(settings.DECODERS, os.cpu_count() or 1))


def _pool(purpose: str, count: int) -> DecoderPool:
    with _lock:
        if purpose not in _pools:
            memory = settings.DECODING_MEMORY_BYTES + (count - settings.DECODERS) * ORDINARY_BYTES
            pool = DecoderPool(count=count, memory=memory, seconds=settings.DECODING_SECONDS)
            atexit.register(pool.close)
            _pools[purpose] = pool
        return _pools[purpose]


_pools: dict[str, DecoderPool] = {}
_lock = Lock()


def _forget_pools() -> None:
    """Drop the pools in a forked process: the decoders belong to its parent."""
    global _lock
    _lock = Lock()  # another thread of the parent may have held it
    for pool in _pools.values():
        pool.forget()
    _pools.clear()


os.register_at_fork(after_in_child=_forget_pools)
