"""Hold advisory locks on another connection, and await one that waits for a lock."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from common.locks import Lock, hold_lock, lock_key

PATIENCE = 20.0  # seconds


@contextmanager
def held_elsewhere(lock: Lock, row: object = None) -> Iterator[None]:
    """Hold the lock on another connection for the block, as another process would."""
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with hold_lock(lock, row):
                is_held.set()
                may_end.wait(PATIENCE)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert is_held.wait(PATIENCE), f"{lock} was not free"
        yield
    finally:
        may_end.set()
        thread.join()


def await_waiting_for(lock: Lock, row: object = None) -> None:
    """Return once another connection waits for the lock."""
    key = lock_key(lock, row) % 2**64
    deadline = time.monotonic() + PATIENCE
    while not _is_awaited(key >> 32, key % 2**32):
        assert time.monotonic() < deadline, f"nothing waits for {lock}"
        time.sleep(0.01)


def _is_awaited(high: int, low: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND classid::bigint = %s AND objid::bigint = %s)",
            [high, low],
        )
        return bool(cursor.fetchone()[0])
