import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from classifier.ml import artifact
from classifier.ml.artifact import ArtifactError
from classifier.ml.text_model import TextModel
from classifier.models import ModelVersion
from classifier.registry import versions
from classifier.services import STARTER
from training.acceptance import candidate_evaluation
from training.datasets.corpus import Corpus


@pytest.fixture
def workdir(small_corpus: Corpus, tmp_path: Path) -> Path:
    """What a fit leaves behind: here the starter text model's own answers."""
    folder = tmp_path / "run"
    shutil.copytree(STARTER / "text", folder / "artifact")
    for name in ("metrics.json", "card.md", "manifest.json"):
        (folder / "artifact" / name).unlink()
    model = TextModel.load(STARTER / "text")
    for split in ("validation", "test"):
        rows = small_corpus.split(split, with_text=True)
        output = model.predict_texts(list(rows["title"]), list(rows["description"]))
        np.savez(
            folder / f"{split}.npz",
            keys=np.array([f"{source}/{id}" for source, id in zip(rows["source"], rows["id"], strict=True)]),
            targets=np.array([model.labels.index(label) for label in rows["label"]], np.int64),
            probabilities=output.probabilities,
            logits_before=np.log(output.probabilities) * 1.5,
        )
    return folder


def test_the_proof_holds_every_figure_and_its_artifact_can_be_registered(
    db: None,
    workdir: Path,
    small_corpus: Corpus,
) -> None:
    fitted = candidate_evaluation.read_fitted_model(workdir, "text")
    metrics, card = candidate_evaluation.evaluate_candidate(fitted, small_corpus)
    assert json.loads(json.dumps(metrics)) == metrics
    assert metrics["n"] == 24
    assert {"accuracy", "top5", "macro_f1", "log_loss", "ece", "ece_before"} <= set(metrics)
    assert metrics["latency_ms"] > 0 and metrics["size_bytes"] > 100_000
    assert metrics["sources"]["shop"]["n"] == 24
    assert metrics["classes"]["beauty"]["train"] == 8
    assert np.sum(metrics["confusion"]["matrix"]) == 24
    assert sum(row["count"] for row in metrics["reliability"]) == 24
    for words in ("# Text model", "beauty (8)", "| shop | 24 |", "all-MiniLM-L6-v2"):
        assert words in card

    candidate_evaluation.seal_artifact(fitted, metrics, card)
    version = versions.register_version(fitted.folder, name="candidate")
    assert version.accuracy == metrics["accuracy"]


def test_an_artifact_that_answers_otherwise_than_in_training_is_refused(
    workdir: Path,
    small_corpus: Corpus,
) -> None:
    path = workdir / "artifact" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "temperature": 9.0}))
    with pytest.raises(ArtifactError, match="differently than in training"):
        candidate_evaluation.evaluate_candidate(candidate_evaluation.read_fitted_model(workdir, "text"), small_corpus)


def test_a_test_product_that_the_corpus_does_not_have_is_refused(workdir: Path, small_corpus: Corpus) -> None:
    content = dict(np.load(workdir / "test.npz"))
    np.savez(workdir / "test.npz", **{**content, "keys": np.array([f"x/{i}" for i in range(len(content["keys"]))])})
    with pytest.raises(ArtifactError, match="has no test product"):
        candidate_evaluation.evaluate_candidate(candidate_evaluation.read_fitted_model(workdir, "text"), small_corpus)


@pytest.mark.parametrize("fault", ["missing", "garbage", "nan", "shape", "modality"])
def test_a_fit_that_left_something_unusable_is_refused(workdir: Path, fault: str) -> None:
    path, modality = workdir / "test.npz", "text"
    content = dict(np.load(path))
    if fault == "missing":
        path.unlink()
    elif fault == "garbage":
        path.write_bytes(b"PK\x03\x04 cut short")
    elif fault == "nan":
        np.savez(path, **{**content, "probabilities": content["probabilities"] * np.nan})
    elif fault == "shape":
        np.savez(path, **{**content, "logits_before": content["logits_before"][:, 1:]})
    else:
        modality = "image"
    with pytest.raises(ArtifactError):
        candidate_evaluation.read_fitted_model(workdir, modality)


def test_the_champion_answers_the_same_products_in_the_same_columns(
    db: None,
    workdir: Path,
    small_corpus: Corpus,
) -> None:
    fitted = candidate_evaluation.read_fitted_model(workdir, "text")
    champion = ModelVersion.objects.get(modality="text")
    found = candidate_evaluation.predict_test_split(champion, small_corpus, fitted)
    assert found == pytest.approx(fitted.test.probabilities, abs=1e-2)  # in bf16, where the processor has it
    config = {**fitted.config, "labels": [*fitted.labels[1:], "new-category"]}
    moved = candidate_evaluation.predict_test_split(
        champion,
        small_corpus,
        candidate_evaluation.FittedModel(fitted.folder, "text", config, fitted.test, fitted.test),
    )
    assert moved is not None
    assert moved[:, -1].max() == 0


def test_a_champion_that_cannot_be_loaded_is_no_hurdle(
    db: None,
    workdir: Path,
    small_corpus: Corpus,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = ModelVersion.objects.create(modality="text", name="gone", checksum="f" * 64, accuracy=0.9)
    assert (
        candidate_evaluation.predict_test_split(
            gone, small_corpus, candidate_evaluation.read_fitted_model(workdir, "text")
        )
        is None
    )
    assert "can't be compared with" in caplog.text


def test_the_sealed_folder_verifies(workdir: Path) -> None:
    fitted = candidate_evaluation.read_fitted_model(workdir, "text")
    checksum = candidate_evaluation.seal_artifact(fitted, {"accuracy": 0.5}, "card")
    assert artifact.verify_artifact(fitted.folder) == checksum
