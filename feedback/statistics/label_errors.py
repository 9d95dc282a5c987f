"""Find answers that are probably wrong, by confident learning, and measure how far two models disagree."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Values = npt.NDArray[np.float64]
Targets = npt.NDArray[np.int64]

PROBABILITY_FLOOR = 1e-7


@dataclass(frozen=True)
class LabelErrors:
    """What confident learning says of each row (n,).

    `suspicion` orders rows, the likeliest error highest, NaN where no model answered; `suggested` is the category that
    the models would give; `found` whether the row is counted as an error rather than a hard case.
    """

    suspicion: Values
    suggested: Targets
    found: npt.NDArray[np.bool_]


def class_thresholds(probabilities: Array, labels: Targets) -> Values:
    """Return the mean probability of each category over the rows (n,) labelled with it; infinite without such a row."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_categories(probabilities: Array, labels: Targets) -> Targets:
    """Return the category that each row confidently belongs to, -1 for none: Northcutt et al. 2021, equation 2.

    Confident is a probability that reaches the category's own threshold; of several, the most probable one counts.
    """
    reached = probabilities >= class_thresholds(probabilities, labels) - 1e-12
    best = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), best, -1)


def find_label_errors(models: Mapping[str, Array], labels: Targets) -> LabelErrors:
    """Find suspected errors among given labels (n,), by confident learning over what several models say.

    `models` hold probabilities (n, classes) of rows that they were not trained with (as live predictions are), rows of
    NaN where one can't answer. Each model is held against its own thresholds, so that a timid and a bold one can be
    joined (Northcutt, Jiang and Chuang 2021, "Confident Learning", section 3). A row is found when a model confidently
    sees another category and none confidently sees the given one. The order is that of the margin by which the models,
    pooled by the geometric mean, prefer another category: the normalized margin of section 3.2 in logarithms.
    Raises ValueError for a label that is no column.
    """
    if not models:
        raise ValueError("no model to ask")
    count, classes = next(iter(models.values())).shape
    if len(labels) != count or (count and not 0 <= labels.min() <= labels.max() < classes):
        raise ValueError("every row needs a label that is a column of the probabilities")
    logs, answered = np.zeros((count, classes)), np.zeros(count)
    agrees, differs = np.zeros(count, bool), np.zeros(count, bool)
    for probabilities in models.values():
        known = np.isfinite(probabilities).all(axis=1)
        some, given = np.asarray(probabilities[known], np.float64), labels[known]
        confident = confident_categories(some, given)
        agrees[known] |= confident == given
        differs[known] |= (confident >= 0) & (confident != given)
        logs[known] += np.log(np.maximum(some, PROBABILITY_FLOOR))
        answered[known] += 1
    asked = answered > 0
    logs[asked] /= answered[asked, None]
    own = np.take_along_axis(logs, labels[:, None], axis=1)[:, 0] if count else np.empty(0)
    others = logs.copy()
    if count:
        np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    suspicion = np.where(asked, others.max(axis=1, initial=-np.inf) - own, np.nan)
    return LabelErrors(suspicion, logs.argmax(axis=1) if count else labels, asked & differs & ~agrees)


def jensen_shannon_divergence(first: Array, second: Array) -> Values:
    """Return the Jensen-Shannon divergence of two models' rows (n,) in bits, in [0, 1]; NaN where one can't answer."""
    p, q = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return np.maximum(row_entropy((p + q) / 2) - (row_entropy(p) + row_entropy(q)) / 2, 0.0)


def row_entropy(probabilities: Array) -> Values:
    """Return the entropy (n,) of each row in bits; NaN for a row of NaN."""
    p = np.asarray(probabilities, np.float64)
    return np.asarray(-np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=1))
