"""Reduce the errors of object storage to two: the file is missing, or the storage is down."""

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
    """The storage does not answer, or refuses the request; the same call may succeed later."""


class Breaker:
    """A circuit breaker: after `faults` errors in a row calls fail at once for `rest` seconds, then one call tries.

    It keeps threads from waiting for one time-out after another.
    """

    def __init__(self, *, faults: int = FAULTS, rest: float = REST) -> None:
        self.faults, self.rest = faults, rest
        self._lock = Lock()
        self.close()

    def close(self) -> None:
        """Let all calls through again, because the storage answered."""
        with self._lock:
            self._in_a_row, self._open_until = 0, 0.0

    def count_fault(self) -> None:
        """Count an error, and open the breaker when there were too many in a row."""
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row >= self.faults:
                self._open_until = time.monotonic() + self.rest

    @property
    def rests(self) -> bool:
        """Whether a call would fail at once. Reading this doesn't use up the next try."""
        with self._lock:
            return self._open_until > time.monotonic()

    def check(self) -> None:
        """Raise StorageDown while the breaker is open. The first caller after that tries; others still fail at once."""
        with self._lock:
            left = self._open_until - time.monotonic()
            if left > 0:
                raise StorageDown(f"the storage failed {self._in_a_row} times in a row; next try in {left:.0f} s")
            if self._in_a_row >= self.faults:
                self._open_until = time.monotonic() + self.rest


breaker = Breaker()


@contextmanager
def storage_faults() -> Iterator[None]:
    """Turn a storage's errors into StorageDown. A missing file stays FileNotFoundError: retrying doesn't help.

    A storage that keeps failing gets no calls for a while: see Breaker.
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
    """Return whether the storage answered with a refusal, such as a wrong key or missing permissions."""
    status = error.response["ResponseMetadata"].get("HTTPStatusCode") if isinstance(error, ClientError) else None
    return status is not None and status < http.HTTPStatus.INTERNAL_SERVER_ERROR
