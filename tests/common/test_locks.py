import re
import threading
from itertools import product

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from common.locks import TRIGGER_LOCKS, Lock, hold_lock, lock_key, lock_until_commit, try_lock
from tests.support.locks import await_waiting_for, held_elsewhere

PACKAGES = ("classifier", "common", "feedback", "portal", "training")


def test_no_two_locks_share_a_key(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT hashtext(name) FROM unnest(%s::text[]) name", [list(TRIGGER_LOCKS)])
        of_triggers = [key for (key,) in cursor.fetchall()]
    of_rows = [lock_key(lock, row) for lock, row in product(Lock, range(1000))]
    keys = [*map(lock_key, Lock), *of_rows, *of_triggers]
    assert len(set(keys)) == len(keys)
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_every_advisory_lock_is_in_the_register() -> None:
    """No other module takes one, and the locks of triggers in migrations are known."""
    in_triggers = set()
    for package in PACKAGES:
        for path in (settings.BASE_DIR / package).rglob("*"):
            if path.suffix not in (".py", ".sql") or path.name == "locks.py":
                continue
            for name in re.findall(r"advisory\w*lock\w*\((.*)\)", path.read_text()):
                assert "migrations" in path.parts, f"{path} takes an advisory lock of its own"
                in_triggers |= set(re.findall(r"hashtext\('(\w+)'\)", name))
    assert in_triggers == set(TRIGGER_LOCKS)


@pytest.mark.parametrize(("held", "wanted"), [(a, b) for a, b in product(Lock, Lock) if a != b])
def test_a_lock_keeps_out_no_other(committed_db: None, held: Lock, wanted: Lock) -> None:
    with hold_lock(held), held_elsewhere(wanted):
        pass


def test_a_lock_that_is_held_elsewhere_is_refused_until_it_is_free(committed_db: None) -> None:
    with held_elsewhere(Lock.HEALTH_SUMMARIES), try_lock(Lock.HEALTH_SUMMARIES) as is_mine:
        assert not is_mine
    with try_lock(Lock.HEALTH_SUMMARIES) as is_mine, try_lock(Lock.HEALTH_SUMMARIES) as is_mine_again:
        assert is_mine and is_mine_again
    with held_elsewhere(Lock.HEALTH_SUMMARIES):
        pass  # what was taken twice was freed twice


def test_a_lock_is_freed_where_the_block_raises(committed_db: None) -> None:
    with pytest.raises(LookupError), hold_lock(Lock.TRAINING_DATA):
        raise LookupError
    with held_elsewhere(Lock.TRAINING_DATA):
        pass


def test_a_locks_rows_are_locked_one_by_one(committed_db: None) -> None:
    with (
        held_elsewhere(Lock.REFERENCE_ANSWERS, 1),
        try_lock(Lock.REFERENCE_ANSWERS, 1) as same,
        try_lock(Lock.REFERENCE_ANSWERS, 2) as other,
        try_lock(Lock.REFERENCE_ANSWERS) as whole,
    ):
        assert (same, other, whole) == (False, True, True)


def test_a_transactions_lock_is_freed_by_its_commit(committed_db: None) -> None:
    done = threading.Event()

    def wait() -> None:
        with transaction.atomic():
            lock_until_commit(Lock.EXAMPLE_SPLITS)
            done.set()
        connection.close()

    waiting = threading.Thread(target=wait)
    with transaction.atomic():
        lock_until_commit(Lock.EXAMPLE_SPLITS)
        waiting.start()
        await_waiting_for(Lock.EXAMPLE_SPLITS)
        assert not done.is_set()
    assert done.wait(20)
    waiting.join()


def test_a_transactions_lock_needs_a_transaction(committed_db: None) -> None:
    with pytest.raises(TransactionManagementError, match="training.example_splits"):
        lock_until_commit(Lock.EXAMPLE_SPLITS)
