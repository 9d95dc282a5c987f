"""When a worker counts as stuck."""

import pytest

from portal.operations.worker_watchdog import Watchdog


class Worker:
    """A worker as the watchdog sees it, on a clock that moves only by hand."""

    def __init__(self) -> None:
        self.now, self.taken, self.rings = 0.0, 0, 0
        self.busy = self.work = False
        self.dog = Watchdog(
            taken=lambda: self.taken,
            busy=lambda: self.busy,
            work=lambda: self.work,
            notify=self.ring,
            patience=100,
            clock=lambda: self.now,
        )
        self.answers_bells = False

    def ring(self) -> None:
        self.rings += 1
        self.taken += self.answers_bells

    def is_stuck_within(self, seconds: int) -> bool:
        for _ in range(seconds // 5):
            self.now += 5
            if self.dog.is_stuck():
                return True
        return False


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_an_idle_worker_is_fine(worker: Worker) -> None:
    assert not worker.is_stuck_within(1000)
    assert not worker.rings


def test_one_that_takes_task_after_task_is_fine(worker: Worker) -> None:
    worker.work = worker.busy = True
    for _ in range(50):
        worker.taken += 1
        assert not worker.is_stuck_within(60)


def test_a_worker_that_missed_a_notification_gets_another_one(worker: Worker) -> None:
    worker.work = worker.answers_bells = True
    assert not worker.is_stuck_within(1000)
    assert worker.rings


def test_one_that_takes_nothing_though_there_is_work_is_stuck(worker: Worker) -> None:
    worker.work = True
    assert not worker.is_stuck_within(95)
    assert worker.is_stuck_within(20)
    assert worker.rings == 1


def test_one_whose_task_never_ends_is_stuck(worker: Worker) -> None:
    worker.taken, worker.busy = 1, True
    assert worker.is_stuck_within(150)


def test_no_worker_is_judged_during_an_outage(worker: Worker) -> None:
    worker.work = True
    for _ in range(20):
        assert not worker.is_stuck_within(80)
        worker.dog.forgive()
