"""Publish and await "prediction finished" notifications over Redis pub/sub.

A notification may be lost: the row is the truth, and a request that waits looks at the row in the end.
"""

import atexit
import logging
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import BoundedSemaphore, Event
from typing import Any

import redis
from django.conf import settings

from classifier.models import Prediction
from common import connections

log = logging.getLogger(__name__)

CHANNEL = "aisle:finished"
POLL_INTERVAL = 1.0  # seconds between two looks at the row while Valkey is away
HEALTH_CHECK_INTERVAL = 10.0
RECONNECT_AFTER = 0.5
UUID_BYTES = 16
WAITERS = BoundedSemaphore(320)  # of a web process's 384 threads: the others keep the site going
_starting = threading.Lock()


def publish_finished(predictions: Collection[uuid.UUID]) -> None:
    """Notify the requests that wait for these predictions, with one message for all."""
    if not predictions:
        return
    try:
        _valkey().publish(CHANNEL, b"".join(prediction.bytes for prediction in predictions))
    except redis.RedisError as error:
        log.warning("Finished predictions could not be announced: %s", type(error).__name__)


def wait_until_finished(prediction: uuid.UUID, *, seconds: float) -> bool:
    """Wait until the prediction is finished, at most `seconds`; return whether it is.

    A waiting thread holds no connection to the database or to Valkey: one listener receives the notifications of a
    process. When too many threads wait already, this returns at once.
    """
    if not WAITERS.acquire(blocking=False):
        return _is_finished(prediction)
    try:
        return _wait(prediction, seconds)
    finally:
        WAITERS.release()


def _wait(prediction: uuid.UUID, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    listener = _listener()
    # Registered before the first look at the row: a notification between the two must not be lost.
    with listener.register(prediction) as waiter:
        while not _is_finished(prediction):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            waiter.wait(left if listener.is_listening else min(left, POLL_INTERVAL))
            if waiter.is_finished:
                return True
            waiter.clear()
        return True


class _Waiter(Event):
    """Set whenever the prediction may be finished; `is_finished` when it is, as notifications follow the commit."""

    is_finished = False


class _Listener:
    """The one thread of a process that receives the notifications and wakes the threads that wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[uuid.UUID, set[_Waiter]] = {}
        self.is_listening = False
        self._is_over = Event()
        atexit.register(self._is_over.set)
        threading.Thread(target=self._listen, name="notifications", daemon=True).start()

    @contextmanager
    def register(self, prediction: uuid.UUID) -> Iterator[_Waiter]:
        """Return a waiter for the prediction that is set by its notifications until the block ends."""
        waiter = _Waiter()
        with self._lock:
            self._waiters.setdefault(prediction, set()).add(waiter)
        try:
            yield waiter
        finally:
            with self._lock:
                self._waiters[prediction].remove(waiter)
                if not self._waiters[prediction]:
                    del self._waiters[prediction]

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                with _connect(health_check_interval=HEALTH_CHECK_INTERVAL).pubsub() as subscription:
                    subscription.subscribe(CHANNEL)
                    while True:
                        if message := subscription.get_message(timeout=HEALTH_CHECK_INTERVAL):
                            self._receive(message)
            except (redis.RedisError, OSError) as error:
                if self.is_listening and not self._is_over.is_set():
                    log.warning("Valkey is away (%s): waiting requests poll their rows.", type(error).__name__)
                self.is_listening = False
                self._wake(self._all_waiters())
                self._is_over.wait(RECONNECT_AFTER)

    def _receive(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            finished = _read_ids(message["data"])
            with self._lock:
                waiters = [waiter for prediction in finished for waiter in self._waiters.get(prediction, ())]
            for waiter in waiters:
                waiter.is_finished = True
            self._wake(waiters)
        else:
            # Just subscribed: what was finished before was not received, so every waiter looks at its row.
            self.is_listening = True
            self._wake(self._all_waiters())

    def _all_waiters(self) -> list[_Waiter]:
        with self._lock:
            return [waiter for waiters in self._waiters.values() for waiter in waiters]

    def _wake(self, waiters: Iterable[Event]) -> None:
        for waiter in waiters:
            waiter.set()


def _read_ids(data: bytes) -> list[uuid.UUID]:
    starts = range(0, len(data) - UUID_BYTES + 1, UUID_BYTES)
    return [uuid.UUID(bytes=data[start : start + UUID_BYTES]) for start in starts]


def _connect(**options: Any) -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=5, **options)


@cache
def _valkey() -> redis.Redis:
    return _connect()


def _listener() -> _Listener:
    with _starting:  # the first requests come at the same time, and `cache` alone would start a listener for each
        return _only_listener()


@cache
def _only_listener() -> _Listener:
    return _Listener()


def _is_finished(prediction: uuid.UUID) -> bool:
    finished = Prediction.objects.finished().filter(pk=prediction).exists()
    connections.release()
    return finished
