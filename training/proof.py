"""Is the new model good enough? Its figures on the untouched test split, and the gate."""

import logging
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.utils.translation import gettext as _

from classifier import artifact
from classifier.artifact import ArtifactError
from classifier.backbones import pick_device
from classifier.models import Modality, ModelVersion
from classifier.storage import StorageDown
from training import answers as corpus_answers
from training.card import model_card
from training.evaluate import (
    BINS,
    Probabilities,
    Targets,
    calibration_error,
    confusion,
    losses,
    mcnemar,
    measure,
    measure_by,
    measure_classes,
    paired_bootstrap,
    reliability,
)

if TYPE_CHECKING:
    from training.corpus import Corpus

log = logging.getLogger(__name__)

TIMED_ROWS = 50
WARM_UP = 3
TOLERANCE = 0.02  # how far an answer alone may be from the same answer in a batch
SIGNIFICANT = 0.05
WORST_DROP = 0.01  # of accuracy against the champion


@dataclass(frozen=True)
class Outputs:
    """What a fitted model said of one split, (n, classes) in the order of the labels."""

    keys: Sequence[str]
    targets: Targets
    probabilities: Probabilities
    logits_before: Probabilities

    @classmethod
    def read(cls, path: Path, classes: int) -> "Outputs":
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
            raise ArtifactError(f"{path.name}: holds probabilities that are no numbers")
        return cls(keys, targets.astype(np.int64), probabilities, before)

    @property
    def sources(self) -> list[str]:
        return [key.partition("/")[0] for key in self.keys]


@dataclass(frozen=True)
class Fitted:
    """What a fit left in its work folder: an artifact that isn't sealed yet, and its answers."""

    folder: Path
    modality: str
    config: dict[str, Any]
    validation: Outputs
    test: Outputs

    @property
    def labels(self) -> list[str]:
        return list(self.config["labels"])


@dataclass(frozen=True)
class Verdict:
    """Whether a model may serve, and why: sentences with figures."""

    passed: bool
    reasons: list[str]


def read(workdir: Path, modality: str) -> Fitted:
    """Return what the fit in `workdir` made. Raises ArtifactError when something is missing or unusable."""
    folder = workdir / "artifact"
    config = artifact.read_config(folder)
    if config["modality"] != modality:
        raise ArtifactError(f"{artifact.CONFIG}: a model for {config['modality']}, not for {modality}")
    classes = len(config["labels"])
    parts = (Outputs.read(workdir / f"{split}.npz", classes) for split in ("validation", "test"))
    return Fitted(folder, modality, config, *parts)


def prove(fitted: Fitted, corpus: "Corpus") -> tuple[dict[str, Any], str]:
    """Return metrics.json and the model card: every figure is of the test split, which nothing was fitted on.

    The loaded artifact answers some 50 test products again, one at a time: that gives the latency, and proves that
    what will serve is what was measured. Raises ArtifactError when it answers otherwise.
    """
    test, labels = fitted.test, fitted.labels
    probabilities, targets = test.probabilities, test.targets
    trained = corpus.manifest["classes"]
    classes = measure_classes(probabilities, targets, labels)
    latency, device = _answers_again(fitted, corpus)
    metrics: dict[str, Any] = {
        **measure(probabilities, targets),
        "ece_before": calibration_error(np.exp(test.logits_before), targets),
        "ece_formula": f"Guo et al. 2017, equation 3, {BINS} equally wide bins of the top probability",
        "temperature": fitted.config["temperature"],
        "classes": {name: {"train": trained.get(name, {}).get("train", 0), **row} for name, row in classes.items()},
        "confusion": confusion(probabilities, targets, labels),
        "reliability": reliability(probabilities, targets),
        "reliability_before": reliability(np.exp(test.logits_before), targets),
        "sources": measure_by(probabilities, targets, test.sources),
        "validation": measure(fitted.validation.probabilities, fitted.validation.targets),
        "latency_ms": latency,
        "latency_device": device,
        "size_bytes": sum(path.stat().st_size for path in fitted.folder.iterdir()),
    }
    return metrics, model_card(fitted.config, metrics, corpus.manifest)


def seal(fitted: Fitted, metrics: dict[str, Any], card: str) -> str:
    """Complete the artifact with its figures and its card, seal it and return its checksum."""
    artifact.write_json(fitted.folder / artifact.METRICS, metrics)
    (fitted.folder / artifact.CARD).write_text(card, encoding="utf-8")
    return artifact.seal(fitted.folder)


def answers(version: ModelVersion, corpus: "Corpus", fitted: Fitted) -> Probabilities | None:
    """Return another version's probabilities of the fitted model's test products, in its rows and columns.

    None, with an error in the log, when that version can't be loaded: a broken champion defends nothing.
    """
    try:
        return corpus_answers.answers(version, corpus, "test", fitted.test.keys, fitted.labels)
    except (ArtifactError, StorageDown, ValueError) as error:
        log.error("%s can't be compared with: %s", version, error)
        return None


def gate(
    fitted: Fitted,
    metrics: dict[str, Any],
    *,
    champion: Probabilities | None,
    minimum_accuracy: float,
    max_latency_ms: float,
) -> Verdict:
    """Say whether a model may serve. All of these must hold on the test split:

    - its accuracy reaches `minimum_accuracy`, and its latency keeps `max_latency_ms`;
    - it is not worse than the champion, given by its probabilities of the same products (n, classes; a category that
      it doesn't know has 0): neither significantly less often right (McNemar's one-sided mid-p below 0.05), nor more
      than 1 point of accuracy behind, nor with a log-loss whose difference has a paired bootstrap interval (95 %)
      wholly above 0.

    Without a champion only the first holds. Raises ValueError when the champion's shape is another.
    """
    reasons: list[str] = []
    failed: list[str] = []

    def check(passes: bool, good: str, bad: str) -> None:
        (reasons if passes else failed).append(good if passes else bad)

    accuracy, latency = metrics["accuracy"], metrics["latency_ms"]
    figures = {"accuracy": _percent(accuracy), "least": _percent(minimum_accuracy), "n": metrics["n"]}
    check(
        accuracy >= minimum_accuracy,
        _("Accuracy %(accuracy)s on %(n)d test products; at least %(least)s is asked for.") % figures,
        _("Accuracy %(accuracy)s on %(n)d test products is below the %(least)s that is asked for.") % figures,
    )
    figures = {"ms": f"{latency:.0f}", "most": f"{max_latency_ms:.0f}"}
    check(
        latency <= max_latency_ms,
        _("%(ms)s ms for one product; at most %(most)s ms is asked for.") % figures,
        _("%(ms)s ms for one product is more than the %(most)s ms that is asked for.") % figures,
    )
    if champion is not None:
        passes, sentence = _compare(fitted.test, champion)
        check(passes, sentence, sentence)
    return Verdict(not failed, failed + reasons)


def _compare(test: Outputs, champion: Probabilities) -> tuple[bool, str]:
    """Return whether the candidate is not worse than the champion, and the comparison as a sentence."""
    if champion.shape != test.probabilities.shape:
        raise ValueError(f"the champion's {champion.shape} are not the candidate's {test.probabilities.shape}")
    old, new = (p.argmax(axis=1) == test.targets for p in (champion, test.probabilities))
    paired = mcnemar(old, new)
    accuracy = paired_bootstrap(old.astype(np.float64), new.astype(np.float64))
    loss = paired_bootstrap(losses(champion, test.targets), losses(test.probabilities, test.targets))
    figures = {
        "points": f"{100 * accuracy.difference:+.1f}",
        "low": f"{100 * accuracy.low:+.1f}",
        "high": f"{100 * accuracy.high:+.1f}",
        "lost": paired.only_first,
        "won": paired.only_second,
        "p": f"{paired.second_is_worse:.3f}",
        "loss": f"{loss.difference:+.3f}",
        "loss_low": f"{loss.low:+.3f}",
        "loss_high": f"{loss.high:+.3f}",
    }
    worse = [
        why
        for holds, why in (
            (paired.second_is_worse < SIGNIFICANT, _("significantly less often right")),
            (accuracy.difference < -WORST_DROP, _("more than 1 point less accurate")),
            (loss.low > 0, _("clearly higher log-loss")),
        )
        if holds
    ]
    measured = (
        _(
            "Against the champion on the same products: accuracy %(points)s points (95 %% interval %(low)s to "
            "%(high)s), %(won)d products won and %(lost)d lost (McNemar's one-sided mid-p for worse: %(p)s), log-loss "
            "%(loss)s (95 %% interval %(loss_low)s to %(loss_high)s)"
        )
        % figures
    )
    if worse:
        return False, _("%(measured)s: worse, by %(why)s.") % {"measured": measured, "why": ", ".join(worse)}
    return True, _("%(measured)s: not worse.") % {"measured": measured}


def _answers_again(fitted: Fitted, corpus: "Corpus") -> tuple[float, str]:
    """Return the artifact's median latency in ms and the device it ran on, having checked what it answers."""
    chosen = np.unique(np.linspace(0, len(fitted.test.keys) - 1, TIMED_ROWS + WARM_UP).astype(int))
    keys = [fitted.test.keys[number] for number in chosen]
    model = _load(fitted)
    times = []
    try:
        for number, row in zip(chosen, corpus_answers.pick(corpus, "test", keys, fitted.modality), strict=True):
            start = time.perf_counter()
            answer = corpus_answers.ask(model, fitted.modality, [row])[0]
            times.append((time.perf_counter() - start) * 1000)
            gap = float(np.abs(answer - fitted.test.probabilities[number]).max())
            if gap > TOLERANCE:
                raise ArtifactError(
                    f"{artifact.WEIGHTS}: answers {fitted.test.keys[number]} otherwise than in training, by {gap:.2f}"
                )
    except KeyError as error:
        raise ArtifactError(f"test.npz: the corpus has no test product {error}") from error
    timed = times[WARM_UP:] or times
    return float(np.median(timed)), str(pick_device(None))


def _load(fitted: Fitted) -> Any:
    if fitted.modality == Modality.TEXT:
        from classifier.text import TextModel

        return TextModel.load(fitted.folder)
    from classifier.image import ImageModel

    return ImageModel.load(fitted.folder)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
