"""Object storage as an outside boundary: whatever a storage raises becomes one of two answers."""

import http
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.exceptions import RetriesExceededError

FAULTS = 5
REST = 10.0


class StorageDown(Exception):
    """The storage doesn't answer, or refuses; the same call may work later."""


class Breaker:
    """After `faults` faults in a row every call fails at once, for `rest` seconds; then one call at a time tries.

    A thread that would wait for a time-out, and then for another one, has better things to do.
    """

    def __init__(self, *, faults: int = FAULTS, rest: float = REST) -> None:
        self.faults, self.rest = faults, rest
        self._lock = Lock()
        self.close()

    def close(self) -> None:
        """The storage answered: whoever comes may call."""
        with self._lock:
            self._in_a_row, self._open_until = 0, 0.0

    def count_fault(self) -> None:
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row >= self.faults:
                self._open_until = time.monotonic() + self.rest

    @property
    def rests(self) -> bool:
        """Whether a call would fail at once. Asking costs nobody the next try."""
        with self._lock:
            return self._open_until > time.monotonic()

    def check(self) -> None:
        """Raise StorageDown while the storage rests. The first caller after that tries, and the others still rest."""
        with self._lock:
            left = self._open_until - time.monotonic()
            if left > 0:
                raise StorageDown(f"the storage failed {self._in_a_row} times in a row; next try in {left:.0f} s")
            if self._in_a_row >= self.faults:
                self._open_until = time.monotonic() + self.rest


breaker = Breaker()


@contextmanager
def storage_faults() -> Iterator[None]:
    """Turn a storage's faults into StorageDown. A missing file stays FileNotFoundError: no retry brings it back.

    A storage that keeps failing is left alone for a while: see Breaker.
    """
    breaker.check()
    try:
        yield
    except FileNotFoundError:
        breaker.close()
        raise
    except (OSError, Boto3Error, BotoCoreError, ClientError, RetriesExceededError) as error:
        if _is_refusal(error):
            breaker.close()
        else:
            breaker.count_fault()
        raise StorageDown(f"{type(error).__name__}: the storage does not answer") from error
    breaker.close()


def _is_refusal(error: Exception) -> bool:
    """Whether the storage answered, only not as wished: a wrong key or too few rights."""
    status = error.response["ResponseMetadata"].get("HTTPStatusCode") if isinstance(error, ClientError) else None
    return status is not None and status < http.HTTPStatus.INTERNAL_SERVER_ERROR
