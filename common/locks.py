"""Take PostgreSQL advisory locks, each of which is named in one register.

An advisory lock keeps processes on any number of machines from doing the same work at the same time. PostgreSQL frees
the locks of a connection that ends, so a killed process blocks nothing.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.transaction import TransactionManagementError

KEY_BYTES = 8  # pg_advisory_lock takes a bigint


class Lock(StrEnum):
    """Every advisory lock of the project, by what it protects.

    A member's value is hashed to the lock's key. Changing a value lets processes of the older and the newer version
    work side by side during an upgrade.
    """

    # One process creates the tables and loads the starter models at a time.
    PREPARATION = "portal.preparation"
    # One process counts hours and watches their figures at a time.
    HEALTH_SUMMARIES = "feedback.health_summaries"
    # One process changes the category tree at a time.
    TAXONOMY = "classifier.taxonomy"
    # One process adds, changes or drops examples at a time: alike products must get the same split.
    EXAMPLE_SPLITS = "training.example_splits"
    # One process takes in feedback, makes a dataset, or erases from one at a time.
    TRAINING_DATA = "training.training_data"
    # With a version's id: one process stores what that version answers on the reference set at a time.
    REFERENCE_ANSWERS = "training.reference_answers"


# Locks that triggers take by `hashtext(...)`; a migration that has run can't be changed. Tests compare their keys too.
TRIGGER_LOCKS = ("classifier_live_shares_sum_to_100",)


def lock_key(lock: Lock, row: object = None) -> int:
    """Return the signed 64-bit key of a lock or, with `row`, of that lock for one row."""
    name = lock.value if row is None else f"{lock.value}:{row}"
    digest = hashlib.blake2b(name.encode(), digest_size=KEY_BYTES).digest()
    return int.from_bytes(digest, "big", signed=True)


@contextmanager
def hold_lock(lock: Lock, row: object = None) -> Iterator[None]:
    """Wait until no other connection holds the lock, and hold it for the block.

    It belongs to the connection, not to a transaction, so the block may commit as often as it likes; it must not close
    the connection. The same connection may take the lock again.
    """
    with _session_lock("SELECT pg_advisory_lock(%s)", lock, row):
        yield


@contextmanager
def try_lock(lock: Lock, row: object = None) -> Iterator[bool]:
    """Hold the lock for the block if no other connection holds it; the block gets whether it does.

    Like `hold_lock` otherwise.
    """
    with _session_lock("SELECT pg_try_advisory_lock(%s)", lock, row) as answer:
        yield answer is True


def lock_until_commit(lock: Lock, row: object = None) -> None:
    """Wait until no other connection holds the lock, and hold it until the open transaction ends.

    Raises TransactionManagementError outside a transaction, where the lock would be gone at once.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    if not connection.in_atomic_block:
        raise TransactionManagementError(f"the lock {lock.value} is held until a transaction ends, and none is open")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key(lock, row)])


@contextmanager
def _session_lock(statement: str, lock: Lock, row: object) -> Iterator[object]:
    connection, key = connections[DEFAULT_DB_ALIAS], lock_key(lock, row)
    with connection.cursor() as cursor:
        cursor.execute(statement, [key])
        (answer,) = cursor.fetchone()
    try:
        yield answer
    finally:
        if answer is not False:
            # A lost connection has freed its lock already, and the block's own error must not be hidden.
            with suppress(Error), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [key])
