"""The queue's length and the estimated waiting time."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from classifier.models import Prediction
from classifier.serving import queue_metrics
from portal.models import User

Priority, State = Prediction.Priority, Prediction.State


def wait(
    seller: User, count: int, priority: Priority = Priority.BULK, age: float = 0, due: float | None = None
) -> None:
    now = timezone.now()
    rows = [
        Prediction(
            seller=seller,
            title="Mug",
            priority=priority,
            created_at=now - timedelta(seconds=age),
            available_at=now - timedelta(seconds=age if due is None else due),
        )
        for _ in range(count)
    ]
    Prediction.objects.bulk_create(rows)


def finish(seller: User, count: int, *, milliseconds: float, age: float = 10) -> None:
    answer = {"state": State.DONE, "probabilities": {"mugs": 1}, "top5": []}
    finished_at = timezone.now() - timedelta(seconds=age)
    Prediction.objects.bulk_create(
        Prediction(seller=seller, title="Mug", milliseconds=milliseconds, finished_at=finished_at, **answer)
        for _ in range(count)
    )


def test_an_empty_queue_has_no_wait(seller: User) -> None:
    load = queue_metrics.measure_load()
    assert load == queue_metrics.Load(queue_metrics.Lane(), queue_metrics.Lane(), None)
    assert load.seconds(Priority.BULK) == 0


def test_bulk_waits_for_all_rows_and_interactive_only_for_interactive_ones(seller: User) -> None:
    finish(seller, 10, milliseconds=100)
    wait(seller, 100)
    wait(seller, 20, Priority.INTERACTIVE)
    load = queue_metrics.measure_load()
    assert load.per_second == pytest.approx(10)
    assert load.seconds(Priority.BULK) == pytest.approx(12, abs=0.1)
    assert load.seconds(Priority.INTERACTIVE) == pytest.approx(2, abs=0.1)


def test_several_workers_count_by_their_common_rate(seller: User) -> None:
    finish(seller, 1200, milliseconds=100)
    assert queue_metrics.measure_load().per_second == pytest.approx(20)


def test_older_results_show_only_the_speed_of_one_worker(seller: User) -> None:
    finish(seller, 1200, milliseconds=100, age=600)
    assert queue_metrics.measure_load().per_second == pytest.approx(10)


def test_rows_without_a_worker_take_at_least_as_long_as_they_have_waited(seller: User) -> None:
    finish(seller, 10, milliseconds=1, age=5000)
    wait(seller, 1, age=900)
    load = queue_metrics.measure_load()
    assert load.oldest_seconds == pytest.approx(900, abs=5)
    assert load.seconds(Priority.BULK) == pytest.approx(900, abs=5)
    assert load.seconds(Priority.INTERACTIVE) == 0


def test_a_postponed_row_is_old_but_delays_no_other(seller: User) -> None:
    wait(seller, 1, Priority.INTERACTIVE, age=900, due=0)
    load = queue_metrics.measure_load()
    assert load.oldest_seconds == pytest.approx(900, abs=5)
    assert load.seconds(Priority.INTERACTIVE) < 5


def test_all_processes_share_one_measurement(seller: User) -> None:
    queue_metrics.current_load()
    with CaptureQueriesContext(connection) as queries:
        queue_metrics.current_load()
    assert not queries.captured_queries
