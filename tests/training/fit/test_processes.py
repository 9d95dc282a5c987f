import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import fitting
from tests.support.fit_processes import start_fit
from training.acceptance.metrics import log_loss


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitting.write_small_corpus(tmp_path_factory.mktemp("corpus"))


def test_a_killed_fit_continues_from_its_last_checkpoint(corpus: Path, tmp_path: Path) -> None:
    recipe = fitting.short_recipe(
        "text", "partial", layers=1, lexical=False, epochs=4, patience=4, batch_size=3, checkpoint_steps=2
    )
    fitting.write_job(tmp_path, corpus, recipe)
    encoder = tmp_path / "stages" / "encoder"
    child = start_fit(tmp_path)
    for _ in range(1_200):
        if list(encoder.glob("checkpoint-*/complete")):
            break
        assert child.poll() is None, (tmp_path / "output.txt").read_text()
        time.sleep(0.05)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "artifact").exists()
    # As if it had been killed while it wrote: what is not whole is not used.
    (encoder / "checkpoint-999").mkdir()

    kept = max(int(path.parent.name.rpartition("-")[2]) for path in encoder.glob("checkpoint-*/complete"))
    (tmp_path / "progress.jsonl").unlink()
    fitting.run_fit(tmp_path, corpus, recipe)
    assert fitting.fitted_stages(tmp_path)[0] == "text_encoder"  # the stages before are not repeated
    first = next(line for line in fitting.progress_lines(tmp_path) if line.get("stage") == "text_encoder")
    assert first["step"] == kept
    assert fitting.predictions_of(tmp_path)["probabilities"].shape == (12, 3)
    assert not list(encoder.glob("checkpoint-*"))


def test_two_processes_learn_what_one_learns(corpus: Path, tmp_path: Path) -> None:
    recipe = fitting.short_recipe("text", "partial", layers=1, dropout=0.0, batch_size=10)
    alone = fitting.predictions_of(fitting.run_fit(tmp_path / "alone", corpus, recipe))
    work = fitting.write_job(tmp_path / "two", corpus, recipe)
    assert start_fit(work, processes=2).wait(240) == 0, (work / "output.txt").read_text()
    together = fitting.predictions_of(work)
    assert together["keys"].tolist() == alone["keys"].tolist()
    losses = [log_loss(found["probabilities"], found["targets"]) for found in (alone, together)]
    assert losses[0] == pytest.approx(losses[1], abs=0.15)
    told = [line["stage"] for line in fitting.progress_lines(work) if line.get("step") == 0]
    assert len(told) == len(set(told)), "only the first process reports progress"


def test_a_fit_ends_with_the_process_that_started_it(corpus: Path, tmp_path: Path) -> None:
    watcher = subprocess.Popen(["true"])
    watcher.wait()
    fitting.write_job(tmp_path, corpus, fitting.short_recipe("text", "full", epochs=200, patience=200))
    os.environ["AISLE_RUNNER_PID"] = str(watcher.pid)
    try:
        assert start_fit(tmp_path).wait(120) == -signal.SIGKILL
    finally:
        del os.environ["AISLE_RUNNER_PID"]
    assert json.loads((tmp_path / "job.json").read_text())
