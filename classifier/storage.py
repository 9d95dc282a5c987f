"""Object storage as an outside boundary: whatever a storage raises becomes one of two answers."""

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.exceptions import RetriesExceededError


class StorageDown(Exception):
    """The storage doesn't answer, or refuses; the same call may work later."""


@contextmanager
def storage_faults() -> Iterator[None]:
    """Turn a storage's faults into StorageDown. A missing file stays FileNotFoundError: no retry brings it back."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, Boto3Error, BotoCoreError, ClientError, RetriesExceededError) as error:
        raise StorageDown(f"{type(error).__name__}: the storage does not answer") from error
