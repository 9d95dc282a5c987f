"""Object storage as an outside boundary: whatever a storage raises becomes one of two answers."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError


class StorageDown(Exception):
    """The storage doesn't answer, or refuses; the same call may work later."""


@contextmanager
def storage_faults() -> Iterator[None]:
    """Turn a storage's faults into StorageDown. A missing file stays FileNotFoundError: no retry brings it back."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, BotoCoreError, ClientError) as error:
        raise StorageDown(f"{type(error).__name__}: the storage does not answer") from error
