"""Two bells over Valkey: "there is work" for the workers, "it is done" for whoever waits.

A bell may be lost. The rows say what is true: workers are rung again by beat, and who waits looks at the row.
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
LOOK_EVERY = 1.0  # seconds between two looks at the row while Valkey is away
HEALTH_EVERY = 10.0
RECONNECT_AFTER = 0.5
_starting = threading.Lock()
MOST_WAITING = BoundedSemaphore(320)  # of a web process's 384 threads: the others keep the site going


def _connect(**options: Any) -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=5, **options)


@cache
def _valkey() -> redis.Redis:
    return _connect()


def publish_finished(predictions: Collection[uuid.UUID]) -> None:
    """Tell those who wait that these predictions are finished: one message for all."""
    if not predictions:
        return
    try:
        _valkey().publish(CHANNEL, b"".join(prediction.bytes for prediction in predictions))
    except redis.RedisError as error:
        log.warning("Nobody could be told of finished predictions: %s", type(error).__name__)


def wait_until_finished(prediction: uuid.UUID, *, seconds: float) -> bool:
    """Wait until the prediction is finished, at most `seconds`; return whether it is.

    A thread that waits sleeps and holds no connection, neither to the database nor to Valkey: one listener hears the
    bell for all of a process. When too many wait already, the answer comes at once.
    """
    if not MOST_WAITING.acquire(blocking=False):
        return _is_finished(prediction)
    try:
        return _wait(prediction, seconds)
    finally:
        MOST_WAITING.release()


def _wait(prediction: uuid.UUID, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    listener = _listener()
    with listener.hears(prediction) as bell:
        while not _is_finished(prediction):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            bell.wait(left if listener.is_listening else min(left, LOOK_EVERY))
            if bell.has_rung:
                return True
            bell.clear()
        return True


class _Bell(Event):
    """Set whenever the prediction may be finished; `has_rung` when it is: bells ring after the commit."""

    has_rung = False


class _Listener:
    """The one thread of a process that hears which predictions are finished, and wakes who waits for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[uuid.UUID, set[_Bell]] = {}
        self.is_listening = False
        self._is_over = Event()
        atexit.register(self._is_over.set)
        threading.Thread(target=self._listen, name="bell", daemon=True).start()

    @contextmanager
    def hears(self, prediction: uuid.UUID) -> Iterator[_Bell]:
        """Give the prediction's bell."""
        bell = _Bell()
        with self._lock:
            self._waiting.setdefault(prediction, set()).add(bell)
        try:
            yield bell
        finally:
            with self._lock:
                self._waiting[prediction].remove(bell)
                if not self._waiting[prediction]:
                    del self._waiting[prediction]

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                with _connect(health_check_interval=HEALTH_EVERY).pubsub() as ears:
                    ears.subscribe(CHANNEL)
                    while True:
                        if message := ears.get_message(timeout=HEALTH_EVERY):
                            self._ring(message)
            except (redis.RedisError, OSError) as error:
                if self.is_listening and not self._is_over.is_set():
                    log.warning("The bell is away (%s): who waits looks at the rows.", type(error).__name__)
                self.is_listening = False
                self._wake(self._all())
                self._is_over.wait(RECONNECT_AFTER)

    def _ring(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            data = message["data"]
            names = [uuid.UUID(bytes=data[start : start + 16]) for start in range(0, len(data) - 15, 16)]
            with self._lock:
                heard = [bell for name in names for bell in self._waiting.get(name, ())]
            for bell in heard:
                bell.has_rung = True
            self._wake(heard)
        else:  # just subscribed: what was finished before that made no sound here
            self.is_listening = True
            self._wake(self._all())

    def _all(self) -> list[_Bell]:
        with self._lock:
            return [bell for bells in self._waiting.values() for bell in bells]

    def _wake(self, bells: Iterable[Event]) -> None:
        for bell in bells:
            bell.set()


def _listener() -> _Listener:
    with _starting:  # the first requests come at once
        return _only_listener()


@cache
def _only_listener() -> _Listener:
    return _Listener()


def _is_finished(prediction: uuid.UUID) -> bool:
    finished = Prediction.objects.finished().filter(pk=prediction).exists()
    connections.release()
    return finished
