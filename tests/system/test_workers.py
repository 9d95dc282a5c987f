"""Workers that are told to stop, that get stuck, and that die under `make run`."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.system.stack import Stack, Uploader, answers, wait_until


@pytest.fixture
def machine(home: Path) -> Iterator[Stack]:
    """An installation whose processes `manage.py start` runs."""
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


def worker(stack: Stack, queue: str) -> psutil.Process | None:
    """The main process of the worker of a queue that `start` runs."""
    for process in psutil.Process(stack.processes["start"].pid).children():
        try:
            if f" -Q {queue} " in " ".join(process.cmdline()):
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def test_a_worker_that_is_told_to_stop_finishes_its_batch_and_keeps_nothing(stack: Stack) -> None:
    stack.environment["BATCH_SIZE"] = "8"
    stack.environment["LEASE_SECONDS"] = "100"
    stack.start_web()
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
    assert done and stack.count("state = 'queued' AND due_at <= now()") == 24 - done
    stack.start_worker()
    stack.start_beat()
    wait_until(lambda: stack.count("state = 'done'") == 24, "the rest")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stuck_worker_is_noticed_and_replaced_and_so_is_a_killed_one(machine: Stack) -> None:
    uploader = Uploader(machine)
    assert uploader.upload("before", wait=10, photo=False).status_code in (200, 202)
    wait_until(lambda: machine.count("state = 'done'") == 1, "the first answer")
    stuck = worker(machine, "predict")
    assert stuck
    for child in stuck.children():
        child.suspend()
    for number in range(3):
        assert uploader.upload(f"while it is stuck {number}", photo=False).status_code == 202
    wait_until(lambda: not stuck.is_running(), "the end of the stuck worker")
    wait_until(lambda: machine.count("state = 'done'") == 4, "answers of its successor")
    assert "took no work" in machine.log("start")

    frozen = worker(machine, "predict")
    assert frozen and frozen.pid != stuck.pid
    frozen.suspend()
    killed = worker(machine, "default")
    assert killed
    killed.kill()
    wait_until(lambda: worker(machine, "default") not in (None, killed), "another default worker")
    wait_until(lambda: worker(machine, "predict") not in (None, frozen), "another predict worker")
    assert uploader.upload("after", photo=False).status_code == 202
    wait_until(lambda: machine.count("state = 'done'") == 5, "the last answer")
    assert answers(f"{machine.address}/health/ready/"), "the others went on"
