import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from classifier.models import Prediction
from portal.models import User
from tests.support.predictions import expire_leases, queue_predictions

Priority, State = Prediction.Priority, Prediction.State


def test_interactive_rows_overtake_bulk_rows(seller: User) -> None:
    queue_predictions(seller, 5, priority=Priority.BULK)
    (lone,) = queue_predictions(seller, 1, priority=Priority.INTERACTIVE)
    assert Prediction.objects.claim(limit=3)[0] == lone


def test_a_claimed_row_is_not_claimed_again_until_its_lease_expires(seller: User) -> None:
    queue_predictions(seller)
    (claimed,) = Prediction.objects.claim(limit=10)
    assert claimed.attempts == 1
    assert Prediction.objects.claim(limit=10) == []
    expire_leases(claimed)
    (again,) = Prediction.objects.claim(limit=10)
    assert again.attempts == 2
    assert again.lease_token != claimed.lease_token


def test_a_worker_that_lost_its_lease_cannot_write(seller: User) -> None:
    queue_predictions(seller)
    (late,) = Prediction.objects.claim(limit=1)
    expire_leases(late)
    (current,) = Prediction.objects.claim(limit=1)
    assert Prediction.objects.held(late).update(error="late") == 0
    assert Prediction.objects.held(current).update(error="in time") == 1


def test_a_released_row_is_due_at_once_and_its_attempt_does_not_count(seller: User) -> None:
    queue_predictions(seller, 3)
    mine = Prediction.objects.claim(limit=3)
    lost, kept, _ = mine
    expire_leases(lost)
    (theirs,) = Prediction.objects.claim(limit=1)
    assert theirs == lost
    assert Prediction.objects.release(mine) == 2, "the row that another worker claimed stays with it"
    kept.refresh_from_db()
    assert (kept.state, kept.lease_token, kept.attempts) == (State.QUEUED, None, 0)
    assert Prediction.objects.held(theirs).exists()
    assert len(Prediction.objects.claim(limit=3)) == 2


def test_a_row_that_may_kill_its_worker_is_claimed_alone(seller: User) -> None:
    first, suspect, *others = queue_predictions(seller, 5)
    Prediction.objects.filter(pk=suspect.pk).update(attempts=2)
    Prediction.objects.filter(pk=first.pk).update(priority=0, available_at=timezone.now() - timedelta(hours=1))
    # Rows before the suspect in the queue are claimed first, and not together with it.
    assert set(Prediction.objects.claim(limit=10)) == {first, *others}
    assert Prediction.objects.claim(limit=10) == [suspect]


def test_a_pausing_row_is_not_due(seller: User) -> None:
    queue_predictions(seller, 1, available_at=timezone.now() + timedelta(minutes=1))
    assert not Prediction.objects.due().exists()
    assert Prediction.objects.claim(limit=1) == []


def test_many_workers_never_claim_a_row_twice(committed_db: None, seller: User) -> None:
    queue_predictions(seller, 300)
    claimed: list[uuid.UUID] = []

    def work() -> None:
        while batch := Prediction.objects.claim(limit=7):
            claimed.extend(prediction.pk for prediction in batch)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert claimed
    # A worker leaves when all that is left is locked by others, so what they returned may still be there: never twice.
    assert len(claimed) == len(set(claimed))
    assert len(claimed) + Prediction.objects.due().count() == 300


@pytest.mark.parametrize("count", [1, 40])
def test_claiming_takes_the_same_few_queries_however_many_rows(
    seller: User, django_assert_num_queries: object, count: int
) -> None:
    queue_predictions(seller, count)
    with django_assert_num_queries(4):  # type: ignore[operator]  # select, update; savepoint and its release
        assert len(Prediction.objects.claim(limit=count)) == count


def test_an_interactive_row_overtakes_10000_bulk_rows_at_once_and_alone(seller: User) -> None:
    """Who waits is claimed next, without bulk rows in the batch, and found by the index."""
    queue_predictions(seller, 10_000, priority=Priority.BULK, available_at=timezone.now() - timedelta(hours=1))
    assert len(Prediction.objects.claim(limit=32)) == 32  # a worker is busy with a batch of them
    (lone,) = queue_predictions(seller, 1, priority=Priority.INTERACTIVE)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE classifier_prediction")
    plan = Prediction.objects.due().order_by("priority", "available_at")[:32].explain()
    assert "prediction_due" in plan and "Sort" not in plan, plan
    assert Prediction.objects.claim(limit=32) == [lone]
    assert len(Prediction.objects.claim(limit=32)) == 32
