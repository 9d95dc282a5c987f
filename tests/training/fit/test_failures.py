import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import fitting
from training.fit import trainer
from training.fit.__main__ import explain_failure
from training.fit.job import Job
from training.fit.progress import FitError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitting.write_small_corpus(tmp_path_factory.mktemp("corpus"))


def small(**changes: Any) -> Any:
    return fitting.short_recipe("text", "head", lexical=False, **changes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "at least two categories; the data has 0"),
        (["garden"], "at least two categories; the data has 1"),
        (["garden", "pets"], "all products with a text in the training split are of one category"),
        (["pets", "toys"], "the train split holds no product with a text"),
        (["garden", "music", "pets"], "category pets has 0 products with a text"),
    ],
)
def test_unusable_data_is_refused_with_a_sentence(
    labels: list[str], message: str, corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(FitError, match=f"(?i){message}") as refused:
        fitting.run_fit(tmp_path, corpus, small(), labels=labels)
    assert refused.value.permanent


def test_a_category_with_two_rows_is_refused(tmp_path: Path) -> None:
    few = [row for row in fitting.product_rows(("music",)) if row.split == "train"][:2]
    rest = list(fitting.product_rows(("garden", "kitchen")))
    fitting.write_corpus([*rest, *few], tmp_path / "corpus", exclusions={})
    with pytest.raises(FitError, match="Category music has 2 products"):
        fitting.run_fit(tmp_path / "work", tmp_path / "corpus", small())


def test_a_missing_corpus_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="corpus"):
        fitting.run_fit(tmp_path, tmp_path / "nowhere", small())


@pytest.mark.parametrize("content", ["", "{}", '{"modality": "text", "recipe": {"modality": "text", "speed": 3}}'])
def test_an_unusable_job_is_reported(content: str, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(FitError, match=r"job\.json"):
        Job.read(tmp_path)


def test_a_damaged_model_to_continue_from_is_reported(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(FitError, match="continue from"):
        fitting.run_fit(tmp_path, corpus, small(), start=str(tmp_path))


def test_a_loss_that_is_not_finite_ends_the_fit(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "weighted_loss", lambda logits, *rest: logits.sum() * torch.nan)
    with pytest.raises(FitError, match="loss became nan in stage text head at step 0: the learning rate head_rate"):
        fitting.run_fit(tmp_path, corpus, small())
    assert not (tmp_path / "artifact").exists()


def test_too_little_gpu_memory_halves_the_batch_and_the_fit_continues(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, sizes = trainer._StageTrainer.compute_loss, []

    def scarce(self: Any, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        if model.training:
            sizes.append(len(inputs["labels"]))
            if len(inputs["labels"]) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, model, inputs, *rest, **more)

    monkeypatch.setattr(trainer._StageTrainer, "compute_loss", scarce)
    fitting.run_fit(tmp_path / "scarce", corpus, small(head_batch_size=10, dropout=0.0))
    monkeypatch.undo()
    assert sizes[:3] == [10, 5, 5]
    assert {"log": "Too little GPU memory: continuing with each batch in 2 parts."} in fitting.progress_lines(
        tmp_path / "scarce"
    )
    fitting.run_fit(tmp_path / "enough", corpus, small(head_batch_size=10, dropout=0.0))
    one, other = (fitting.predictions_of(tmp_path / name)["probabilities"] for name in ("scarce", "enough"))
    assert one == pytest.approx(other, abs=0.1)
    assert not np.isnan(one).any()


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    sentence, permanent = explain_failure(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert "No space is left on the disk" in sentence
    assert permanent
    assert explain_failure(KeyError("label"), tmp_path) == ("Training stopped: KeyError: 'label'", False)


def test_a_failed_fit_exits_with_one_and_says_why_on_its_last_line(tmp_path: Path) -> None:
    from tests.support.fit_processes import start_fit

    fitting.write_job(tmp_path, tmp_path / "nowhere", small())
    assert start_fit(tmp_path).wait(120) == 1
    last = fitting.progress_lines(tmp_path)[-1]
    assert "corpus" in last["error"]
    assert last["permanent"] is True
    assert json.dumps(last)
