"""Measure accuracy and calibration of probabilities on labelled products. Pure functions over arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from classifier.evaluation.paired_tests import FLOOR, Values

Probabilities = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]
Metrics = dict[str, float]

# As in table 1 of Guo et al. 2017, "On Calibration of Modern Neural Networks".
BINS = 15

# What `compute_metrics` returns, in the order of the tables.
COLUMNS = ("n", "accuracy", "top5", "macro_f1", "log_loss", "ece")


def compute_metrics(probabilities: Probabilities, targets: Targets) -> Metrics:
    """Return n, accuracy, top5, macro_f1, log_loss (nats) and ece of probabilities (n, classes).

    Raises ValueError when there is no row or the shapes do not match.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(targets) or len(targets) == 0:
        raise ValueError(f"{len(targets)} targets for probabilities of shape {probabilities.shape}")
    return {
        "n": len(targets),
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == targets)),
        "top5": float(np.mean(true_category_ranks(probabilities, targets) < 5)),
        "macro_f1": macro_f1(probabilities.argmax(axis=1), targets),
        "log_loss": log_loss(probabilities, targets),
        "ece": calibration_error(probabilities, targets),
    }


def macro_f1(predicted: Targets, targets: Targets) -> float:
    """Return the mean F1 over the categories that occur among the targets."""
    # Only over categories that occur: one that is merely predicted would count with an F1 of 0.
    return float(f1_score(targets, predicted, labels=np.unique(targets), average="macro", zero_division=0))


def log_loss(probabilities: Probabilities, targets: Targets, weights: npt.NDArray[np.float32] | None = None) -> float:
    """Return the (weighted) mean of -ln p(true category).

    Unlike scikit-learn's, it takes rows that do not sum to one, as those of a version that lacks a category, and it
    floors probabilities as the paired tests do.
    """
    return float(np.average(row_losses(probabilities, targets), weights=weights))


def row_losses(probabilities: Probabilities, targets: Targets) -> Values:
    """Return -ln p(true category) of each product, (n,), in nats."""
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return np.asarray(-np.log(np.maximum(chosen, FLOOR)))


def calibration_error(probabilities: Probabilities, targets: Targets) -> float:
    """Return the expected calibration error of Guo et al. 2017, equation 3, over 15 equally wide bins.

    The sum over bins of (share of products) * |accuracy - mean top probability|.
    """
    confidence, correct, bins = _bins(probabilities, targets)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(targets))


def reliability_bins(probabilities: Probabilities, targets: Targets) -> list[dict[str, Any]]:
    """Return the bins of `calibration_error`, 15 of them: count, mean confidence and accuracy (None where empty)."""
    confidence, correct, bins = _bins(probabilities, targets)
    counts = np.bincount(bins, minlength=BINS)
    sums = {
        "confidence": np.bincount(bins, weights=confidence, minlength=BINS),
        "accuracy": np.bincount(bins, weights=correct, minlength=BINS),
    }
    rows: list[dict[str, Any]] = []
    for number, count in enumerate(counts):
        row: dict[str, Any] = {"count": int(count)}
        for name, values in sums.items():
            row[name] = float(values[number] / count) if count else None
        rows.append(row)
    return rows


def count_confusions(probabilities: Probabilities, targets: Targets, labels: Sequence[str]) -> dict[str, Any]:
    """Return {"labels", "matrix"}: matrix[i][j] counts products of category i whose predicted category is j."""
    matrix = confusion_matrix(targets, probabilities.argmax(axis=1), labels=np.arange(len(labels)))
    return {"labels": list(labels), "matrix": matrix.tolist()}


def metrics_by_group(probabilities: Probabilities, targets: Targets, groups: Sequence[str]) -> dict[str, Metrics]:
    """Return `compute_metrics` for each group (a data set, say), in alphabetical order."""
    names = np.array(groups)
    return {name: compute_metrics(probabilities[names == name], targets[names == name]) for name in sorted(set(groups))}


def metrics_by_category(probabilities: Probabilities, targets: Targets, labels: Sequence[str]) -> dict[str, Metrics]:
    """Return for each category that occurs: n, accuracy (recall), precision, f1, top5, log_loss and ece.

    `ece` is taken over the products that the category was predicted for: is "80 % Beauty" right at 80 %?
    """
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, counts = precision_recall_fscore_support(
        targets, predicted, labels=np.arange(len(labels)), zero_division=0
    )
    metrics = {}
    for category, label in enumerate(labels):
        if not counts[category]:
            continue
        is_true, is_predicted = targets == category, predicted == category
        metrics[label] = {
            "n": int(counts[category]),
            "accuracy": float(recall[category]),
            "precision": float(precision[category]),
            "f1": float(f1[category]),
            "top5": float(np.mean(true_category_ranks(probabilities[is_true], targets[is_true]) < 5)),
            "log_loss": log_loss(probabilities[is_true], targets[is_true]),
            "ece": 0.0,
        }
        if is_predicted.any():
            metrics[label]["ece"] = calibration_error(probabilities[is_predicted], targets[is_predicted])
    return metrics


def markdown_table(rows: dict[str, Metrics], head: str, columns: Sequence[str] = ()) -> str:
    """Return the metrics as a Markdown table; shares in per cent, log-loss in nats."""
    names = list(columns) or list(next(iter(rows.values())))
    lines = [f"| {head} | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for name, metrics in rows.items():
        cells = [_FORMATS[key](metrics[key]) for key in names]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def true_category_ranks(probabilities: Probabilities, targets: Targets) -> Targets:
    """Return how many categories rank before the true one; of equal probabilities the first column ranks first."""
    true = probabilities[np.arange(len(targets)), targets][:, None]
    columns = np.arange(probabilities.shape[1])
    before = (probabilities > true) | ((probabilities == true) & (columns < targets[:, None]))
    ranks: Targets = before.sum(axis=1)
    return ranks


def _bins(probabilities: Probabilities, targets: Targets) -> tuple[Values, npt.NDArray[np.bool_], Targets]:
    """Return each product's top probability, whether it is right, and its bin."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == targets
    return confidence, correct, np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


_FORMATS: dict[str, Callable[[float], str]] = {
    **dict.fromkeys(("n", "train"), lambda value: f"{value:.0f}"),
    "log_loss": lambda value: f"{value:.3f}",
    **dict.fromkeys(("accuracy", "top5", "macro_f1", "ece", "precision", "f1"), _percent),
}
