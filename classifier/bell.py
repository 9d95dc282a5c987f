"""Two bells over Valkey: "there is work" for the workers, "it is done" for whoever waits.

A bell may be lost. The rows say what is true: workers are rung again by beat, and who waits looks at the row.
"""

import logging
import time
import uuid
from collections.abc import Iterable
from functools import cache
from threading import BoundedSemaphore

import redis
from django.conf import settings
from django.db import connection

from classifier.models import Prediction

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5  # seconds between two looks at the row when no bell is heard
MOST_WAITING = BoundedSemaphore(16)  # half of a web process's threads: the others keep the site going


@cache
def _valkey() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=5)


def _channel(prediction: uuid.UUID) -> str:
    return f"aisle:finished:{prediction}"


def announce(predictions: Iterable[uuid.UUID]) -> None:
    """Tell those who wait that these predictions are finished."""
    try:
        pipe = _valkey().pipeline(transaction=False)
        for prediction in predictions:
            pipe.publish(_channel(prediction), b"")
        pipe.execute()
    except redis.RedisError as error:
        log.warning("Nobody could be told of finished predictions: %s", type(error).__name__)


def wait_for(prediction: uuid.UUID, *, seconds: float) -> bool:
    """Wait until the prediction is finished, at most `seconds`; return whether it is.

    No database connection is held while waiting. When too many wait already, the answer comes at once.
    """
    if not MOST_WAITING.acquire(blocking=False):
        return _is_finished(prediction)
    try:
        return _wait(prediction, seconds)
    finally:
        MOST_WAITING.release()


def _wait(prediction: uuid.UUID, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    try:
        with _valkey().pubsub(ignore_subscribe_messages=True) as ears:
            ears.subscribe(_channel(prediction))
            while not _is_finished(prediction):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                _listen(ears, min(left, LOOK_EVERY))
            return True
    except redis.RedisError:
        return _is_finished(prediction)


def _listen(ears: redis.client.PubSub, seconds: float) -> None:
    """Return at the first message, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if ears.get_message(timeout=left):
            return


def _is_finished(prediction: uuid.UUID) -> bool:
    finished = Prediction.objects.finished().filter(pk=prediction).exists()
    if not connection.in_atomic_block:
        connection.close()
    return finished
