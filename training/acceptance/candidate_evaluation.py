"""Evaluate a fitted model on the test split, and seal its artifact together with the figures."""

import logging
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.ml import artifact
from classifier.ml.artifact import ArtifactError
from classifier.ml.classifier import Classifier
from classifier.ml.encoders import pick_device
from classifier.modalities import MODALITIES
from classifier.models import ModelVersion
from training.acceptance import batch_inference
from training.acceptance.metrics import (
    BINS,
    Probabilities,
    Targets,
    calibration_error,
    compute_metrics,
    count_confusions,
    metrics_by_category,
    metrics_by_group,
    reliability_bins,
)
from training.acceptance.model_card import model_card

if TYPE_CHECKING:
    from training.datasets.corpus import Corpus

log = logging.getLogger(__name__)

TIMED_ROWS = 50
WARM_UP_ROWS = 3
TOLERANCE = 0.02  # how far the probabilities of a product alone may be from those in a batch


@dataclass(frozen=True)
class SplitPredictions:
    """A fitted model's predictions for one split, (n, classes) in the order of the labels."""

    keys: Sequence[str]
    targets: Targets
    probabilities: Probabilities
    logits_before: Probabilities

    @classmethod
    def read(cls, path: Path, classes: int) -> "SplitPredictions":
        """Raises ArtifactError for a file that is missing, unreadable or of another shape."""
        try:
            with np.load(path, allow_pickle=False) as file:
                targets, probabilities, before = file["targets"], file["probabilities"], file["logits_before"]
                keys = [str(key) for key in file["keys"]]
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ArtifactError(f"{path.name}: cannot be read ({error})") from error
        if not keys or len(targets) != len(keys) or {probabilities.shape, before.shape} != {(len(keys), classes)}:
            raise ArtifactError(f"{path.name}: {len(keys)} rows, but probabilities of shape {probabilities.shape}")
        if not np.isfinite(probabilities).all():
            raise ArtifactError(f"{path.name}: holds probabilities that are not finite")
        return cls(keys, targets.astype(np.int64), probabilities, before)

    @property
    def sources(self) -> list[str]:
        """The source of each row."""
        return [key.partition("/")[0] for key in self.keys]


@dataclass(frozen=True)
class FittedModel:
    """The result of a fit in its work folder: an artifact that isn't sealed yet, and its predictions."""

    folder: Path
    modality: str
    config: dict[str, Any]
    validation: SplitPredictions
    test: SplitPredictions

    @property
    def labels(self) -> list[str]:
        """The labels in the order of the columns."""
        return list(self.config["labels"])


def read_fitted_model(workdir: Path, modality: str) -> FittedModel:
    """Read the result of the fit in `workdir`. Raises ArtifactError when something is missing or unusable."""
    folder = workdir / "artifact"
    config = artifact.read_config(folder)
    if config["modality"] != modality:
        raise ArtifactError(f"{artifact.CONFIG}: a model for {config['modality']}, not for {modality}")
    classes = len(config["labels"])
    parts = (SplitPredictions.read(workdir / f"{split}.npz", classes) for split in ("validation", "test"))
    return FittedModel(folder, modality, config, *parts)


def evaluate_candidate(fitted: FittedModel, corpus: "Corpus") -> tuple[dict[str, Any], str]:
    """Return the content of metrics.json and the model card, measured on the test split, which nothing was fitted on.

    The loaded artifact predicts some 50 test products again, one at a time: that gives the latency, and shows that the
    artifact that will serve is the one that was measured. Raises ArtifactError when its predictions differ.
    """
    test, labels = fitted.test, fitted.labels
    probabilities, targets = test.probabilities, test.targets
    trained = corpus.manifest["classes"]
    classes = metrics_by_category(probabilities, targets, labels)
    latency, device = _check_and_time(fitted, corpus)
    metrics: dict[str, Any] = {
        **compute_metrics(probabilities, targets),
        "ece_before": calibration_error(np.exp(test.logits_before), targets),
        "ece_formula": f"Guo et al. 2017, equation 3, {BINS} equally wide bins of the top probability",
        "temperature": fitted.config["temperature"],
        "classes": {name: {"train": trained.get(name, {}).get("train", 0), **row} for name, row in classes.items()},
        "confusion": count_confusions(probabilities, targets, labels),
        "reliability": reliability_bins(probabilities, targets),
        "reliability_before": reliability_bins(np.exp(test.logits_before), targets),
        "sources": metrics_by_group(probabilities, targets, test.sources),
        "validation": compute_metrics(fitted.validation.probabilities, fitted.validation.targets),
        "latency_ms": latency,
        "latency_device": device,
        "size_bytes": sum(path.stat().st_size for path in fitted.folder.iterdir()),
    }
    return metrics, model_card(fitted.config, metrics, corpus.manifest)


def seal_artifact(fitted: FittedModel, metrics: dict[str, Any], card: str) -> str:
    """Add the figures and the model card to the artifact, seal it and return its checksum."""
    artifact.write_json(fitted.folder / artifact.METRICS, metrics)
    (fitted.folder / artifact.CARD).write_text(card, encoding="utf-8")
    return artifact.seal_artifact(fitted.folder)


def predict_test_split(version: ModelVersion, corpus: "Corpus", fitted: FittedModel) -> Probabilities | None:
    """Return another version's probabilities for the fitted model's test products, in the same rows and columns.

    None, with an error in the log, when that version's artifact is damaged. Raises StorageDown.
    """
    try:
        return batch_inference.predict_rows(version, corpus, "test", fitted.test.keys, fitted.labels)
    except (ArtifactError, ValueError) as error:
        log.error("%s can't be compared with: %s", version, error)
        return None


def _check_and_time(fitted: FittedModel, corpus: "Corpus") -> tuple[float, str]:
    """Check the artifact's predictions; return its median latency in ms and the device it ran on."""
    chosen = np.unique(np.linspace(0, len(fitted.test.keys) - 1, TIMED_ROWS + WARM_UP_ROWS).astype(int))
    keys = [fitted.test.keys[number] for number in chosen]
    model = load_fitted_model(fitted)
    times = []
    try:
        for number, row in zip(chosen, batch_inference.rows_by_key(corpus, "test", keys, fitted.modality), strict=True):
            start = time.perf_counter()
            answer = batch_inference.predict_corpus_rows(model, [row])[0]
            times.append((time.perf_counter() - start) * 1000)
            gap = float(np.abs(answer - fitted.test.probabilities[number]).max())
            if gap > TOLERANCE:
                raise ArtifactError(
                    f"{artifact.WEIGHTS}: predicts {fitted.test.keys[number]} differently than in training ({gap:.2f})"
                )
    except KeyError as error:
        raise ArtifactError(f"test.npz: the corpus has no test product {error}") from error
    # The first predictions compile and allocate, which serving does once.
    timed = times[WARM_UP_ROWS:] or times
    return float(np.median(timed)), str(pick_device(None))


def load_fitted_model(fitted: FittedModel) -> Classifier:
    """Return the fitted model as it will serve. Raises ArtifactError when it is unusable."""
    return MODALITIES[fitted.modality].load(fitted.folder)
