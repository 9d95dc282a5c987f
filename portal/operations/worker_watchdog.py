"""End a predict worker that is alive but takes no work, so that its supervisor restarts it.

Every worker touches a file to report that it is alive. A predict worker counts as stuck when predictions are due and it
takes none for STALL_SECONDS, not even after a notification, or when one task runs that long.
"""

import atexit
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis
from celery.worker import state
from django.conf import settings
from django.db import DatabaseError, connection
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0


def sign_of_life(pid: int) -> Path:
    """Return the file that a worker touches; its age tells a supervisor or a probe whether the process is alive."""
    return Path(tempfile.gettempdir()) / f"aisle-worker-{os.getuid()}-{pid}"


class Watchdog:
    """A check, from its own thread, whether one worker process is stuck.

    `taken` counts the tasks that the worker has received, `busy` tells whether it is running one, `work` whether any is
    waiting; `notify` sends a notification. `work` and `notify` raise while the database or the broker is unavailable:
    then the worker is not judged.
    """

    def __init__(
        self,
        *,
        taken: Callable[[], int],
        busy: Callable[[], bool],
        work: Callable[[], bool],
        notify: Callable[[], object],
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._taken, self._busy, self._work, self._notify = taken, busy, work, notify
        self._patience, self._clock = patience, clock
        self._seen, self._since, self._has_notified = -1, clock(), False

    def is_stuck(self) -> bool:
        """Check once; return whether the worker has had work and taken none of it for longer than allowed."""
        if self._moved():
            self._seen, self._since, self._has_notified = self._taken(), self._clock(), False
        waited = self._clock() - self._since
        if waited > self._patience / 2 and not self._has_notified:
            self._notify()
            self._has_notified = True
        return waited > self._patience

    def _moved(self) -> bool:
        return self._taken() != self._seen or not (self._busy() or self._work())

    def forgive(self) -> None:
        """Start measuring again from now."""
        self._since, self._has_notified = self._clock(), False


def watch(queues: Sequence[str]) -> None:
    """Start the thread that touches this worker's file and, in a predict worker, checks whether it is stuck."""
    judge = _predict_watchdog() if "predict" in queues else None
    atexit.register(sign_of_life(os.getpid()).unlink, missing_ok=True)
    threading.Thread(target=_keep_looking, args=[judge], name="watchdog", daemon=True).start()


def _keep_looking(judge: Watchdog | None) -> None:
    file = sign_of_life(os.getpid())
    while True:
        file.touch()
        if judge and _stuck(judge):
            log.critical("This worker took none of the waiting work for %d s. It ends.", settings.STALL_SECONDS)
            file.unlink(missing_ok=True)
            os.kill(
                os.getpid(), signal.SIGKILL
            )  # the pool's children end with it; a stuck process ignores other signals
        time.sleep(LOOK_EVERY)


def _stuck(judge: Watchdog) -> bool:
    try:
        return judge.is_stuck()
    except (DatabaseError, redis.RedisError, OperationalError):
        judge.forgive()
        return False
    finally:
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's wrapper; a forked child must not share it


def _predict_watchdog() -> Watchdog:
    from classifier.models import Prediction
    from classifier.tasks import classify_pending

    broker = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=2)

    def work() -> bool:
        broker.ping()
        return Prediction.objects.due().exists()

    def busy() -> bool:
        return bool(state.active_requests) and bool(broker.ping())

    return Watchdog(
        taken=lambda: state.all_total_count[0],
        busy=busy,
        work=work,
        notify=classify_pending.delay,
        patience=settings.STALL_SECONDS,
    )
