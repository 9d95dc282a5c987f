"""Stop, freeze and kill the workers that `make run` starts."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.harness.processes import is_ready, wait_until
from tests.support.stack import Stack, Uploader


@pytest.fixture
def machine(home: Path) -> Iterator[Stack]:
    """Run an installation by `manage.py start`."""
    stack = Stack(home, STALL_SECONDS="20")
    try:
        stack.start("start", sys.executable, "manage.py", "start", "--port", str(stack.port))
        wait_until(stack.is_live, "the web process")
        yield stack
    finally:
        if stack.processes["start"].poll() is None:
            stack.processes["start"].send_signal(signal.SIGINT)
            stack.processes["start"].wait(60)
        stack.stop()


def main_process(stack: Stack, queue: str) -> psutil.Process | None:
    """Return the main process of a queue's worker that `start` runs."""
    for process in psutil.Process(stack.processes["start"].pid).children():
        try:
            if f" -Q {queue} " in " ".join(process.cmdline()):
                return process
        except psutil.NoSuchProcess:
            continue
    return None


@pytest.fixture(scope="module")
def served(module_home: Path) -> Iterator[Stack]:
    """An installation with a web process."""
    stack = Stack(module_home)
    try:
        stack.start_web()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def web(served: Stack) -> Iterator[Stack]:
    """The installation with a web process, without a product; each test sets and starts the workers of its own."""
    before = dict(served.environment)
    served.forget_products()
    yield served
    served.environment = before
    if "predict" in served.processes:
        served.kill("predict")


def test_a_stopping_worker_finishes_its_batch_and_keeps_no_claim(web: Stack) -> None:
    stack = web
    stack.environment |= {"BATCH_SIZE": "8", "LEASE_SECONDS": "100"}
    uploader = Uploader(stack)
    for number in range(24):
        assert uploader.upload(f"Mug {number}").status_code == 202
    stack.start_worker()
    wait_until(lambda: stack.count("state = 'running'"), "a batch in hand")
    process = stack.processes.pop("predict")
    process.terminate()
    assert process.wait(60) == 0
    assert stack.count("state = 'running'") == 0, "what it left is claimed until the lease ends"
    done = stack.count("state = 'done'")
    assert done and stack.count("state = 'queued' AND due_at <= now() AND lease IS NULL") == 24 - done


def test_a_worker_that_cannot_finish_its_batch_in_time_gives_it_back(web: Stack) -> None:
    stack = web
    stack.environment |= {"STOP_SECONDS": "1", "LEASE_SECONDS": "100"}
    uploader = Uploader(stack)
    assert uploader.upload("A photo that can be read").status_code == 202
    assert uploader.upload("Words alone", photo=False).status_code == 202
    ((name,),) = stack.query("SELECT photo_small FROM classifier_prediction WHERE photo_small <> ''")
    photo = stack.home / "storage" / "photos" / name
    content = photo.read_bytes()
    photo.unlink()
    os.mkfifo(photo)  # a reader of it waits for ever
    stack.start_worker()
    wait_until(lambda: stack.count("state = 'running'") == 2, "a batch in hand")
    process = stack.processes.pop("predict")
    process.terminate()
    process.wait(60)
    assert stack.count("state = 'queued' AND due_at <= now() AND lease IS NULL AND attempts = 0") == 2
    photo.unlink()
    photo.write_bytes(content)
    stack.start_worker()
    wait_until(lambda: stack.count("state = 'done' AND attempts = 1") == 2, "both answers")


QUEUE_FOR_LATER = """
from datetime import timedelta
from django.utils import timezone
from classifier.models import Prediction
from portal.models import User
seller = User.objects.get(email="seller@example.com")
later = timezone.now() + timedelta(hours=1)
Prediction.objects.bulk_create(Prediction(seller=seller, title="Mug", available_at=later) for _ in range(4))
"""
MAKE_ONE_DUE = """
    UPDATE classifier_prediction SET due_at = now()
    WHERE id = (SELECT id FROM classifier_prediction WHERE state = 'queued' LIMIT 1)
"""
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def test_a_worker_keeps_its_connection_from_task_to_task_until_the_database_restarts(stack: Stack) -> None:
    stack.manage("shell", "--no-imports", "-v0", "-c", QUEUE_FOR_LATER)
    stack.start_worker()
    seen: list[set[int]] = []
    for number in range(1, 4):
        stack.execute(MAKE_ONE_DUE)
        stack.wake_workers()
        wait_until(lambda number=number: stack.count("state = 'done'") == number, "an answer")  # type: ignore[misc]
        seen.append(set(stack.query(BACKENDS)))
    assert set.intersection(*seen)
    stack.stop_postgres()
    stack.start_postgres()
    stack.execute(MAKE_ONE_DUE)
    stack.wake_workers()
    wait_until(lambda: stack.count("state = 'done'") == 4, "an answer after the restart")


NOTE_EVERY_CLAIM_AND_RESULT = """
    CREATE TABLE noted (id uuid, state text, lease uuid);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO noted VALUES (NEW.id, NEW.state, NEW.lease); RETURN NULL; END';
    CREATE TRIGGER note AFTER UPDATE ON classifier_prediction FOR EACH ROW
    WHEN (NEW.lease IS DISTINCT FROM OLD.lease OR NEW.finished_at IS DISTINCT FROM OLD.finished_at)
    EXECUTE FUNCTION note();
"""
QUEUE_AND_NOTIFY = """
from classifier.models import Prediction
from classifier.tasks import classify_pending
from portal.models import User
seller = User.objects.get(email="seller@example.com")
Prediction.objects.bulk_create(Prediction(seller=seller, title=f"Mug {n}", priority=10) for n in range(400))
for _ in range(8):
    classify_pending.delay()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_workers_on_four_hosts_never_claim_a_row_twice(stack: Stack) -> None:
    stack.environment |= {"BATCH_SIZE": "4", "LEASE_SECONDS": "100", "ENGINE_THREADS": "1"}
    hosts = [f"host{number}" for number in range(4)]
    for host in hosts:
        stack.start_worker(host, host=host)
    for host in hosts:
        stack.wait_for_models(host)
    stack.execute(NOTE_EVERY_CLAIM_AND_RESULT)
    stack.manage("shell", "--no-imports", "-v0", "-c", QUEUE_AND_NOTIFY)
    wait_until(lambda: stack.count("state = 'done'") == 400, "all answers")
    wait_until(lambda: all("succeeded" in stack.log(host) for host in hosts), "a batch of each: they share the work")
    noted = dict(stack.query("SELECT state, ARRAY[count(*), count(DISTINCT id)] FROM noted GROUP BY state"))
    assert noted == {"running": [400, 400], "done": [400, 400]}, "claimed once and answered once"
    ((largest,),) = stack.query("SELECT max(n) FROM (SELECT count(*) n FROM noted WHERE state = 'done' GROUP BY lease)")
    assert largest <= 4, "a lease is one claim's"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stuck_worker_is_noticed_and_replaced_and_so_is_a_killed_one(machine: Stack) -> None:
    uploader = Uploader(machine)
    assert uploader.upload("before", wait=10, photo=False).status_code in (200, 202)
    wait_until(lambda: machine.count("state = 'done'") == 1, "the first answer")
    stuck = main_process(machine, "predict")
    assert stuck
    for child in stuck.children():
        child.suspend()
    for number in range(3):
        assert uploader.upload(f"while it is stuck {number}", photo=False).status_code == 202
    wait_until(lambda: not stuck.is_running(), "the end of the stuck worker")
    wait_until(lambda: machine.count("state = 'done'") == 4, "answers of its successor")
    assert "took none of the waiting work" in machine.log("start")

    frozen = main_process(machine, "predict")
    assert frozen and frozen.pid != stuck.pid
    frozen.suspend()
    killed = main_process(machine, "default")
    assert killed
    killed.kill()
    wait_until(lambda: main_process(machine, "default") not in (None, killed), "another default worker")
    wait_until(lambda: main_process(machine, "predict") not in (None, frozen), "another predict worker")
    assert uploader.upload("after", photo=False).status_code == 202
    wait_until(lambda: machine.count("state = 'done'") == 5, "the last answer")
    assert is_ready(f"{machine.address}/health/ready/"), "the others went on"
