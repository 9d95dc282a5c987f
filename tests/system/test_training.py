"""Kill a training worker in the middle of a run."""

from pathlib import Path

import psutil
import pytest

from benchmarks.harness.processes import wait_until
from tests.support.stack import Stack
from tests.support.training_runs import write_products

RUN = "SELECT state, message, log FROM training_trainingrun"


def fit_processes(stack: Stack) -> list[psutil.Process]:
    """Return the processes that fit a model for this installation."""
    folder = str(stack.home)
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "training.fit" in (line := process.info["cmdline"] or []) and any(folder in word for word in line)
    ]


@pytest.mark.slow
def test_a_training_run_survives_its_killed_worker_and_leaves_no_process(stack: Stack, tmp_path: Path) -> None:
    stack.environment |= {"TRAINING_LEASE_SECONDS": "8", "TEXT_MIN_ACCURACY": "0.5", "TEXT_MAX_LATENCY_MS": "60000"}
    stack.manage("import_products", str(write_products(tmp_path / "shop", count=300)), "--source", "made-up")
    stack.start_worker("training", "training")
    wait_until(lambda: "ready" in stack.log("training"), "the training worker")
    stack.manage("retrain", "text", "--recipe", "head", "--from", "champion", "--background")
    fit = wait_until(lambda: fit_processes(stack), "a process that fits")
    worker = psutil.Process(stack.processes["training"].pid)
    for process in [worker, *worker.children(recursive=True)]:
        if process not in fit:
            process.kill()
    stack.processes.pop("training").wait()
    wait_until(lambda: not fit_processes(stack), "the orphan's end")
    assert stack.query(RUN)[0][0] == "running"
    silent = "SELECT heartbeat_at < now() - interval '8 seconds' FROM training_trainingrun"
    wait_until(lambda: stack.query(silent)[0][0], "the end of the lease")
    output = stack.manage("retrain", "text", "--resume")
    assert "Deployed" in output
    state, message, log = stack.query(RUN)[0]
    assert state == "deployed", log
    assert "Attempt 2" in log
    assert "Accuracy" in message
    assert not fit_processes(stack)
