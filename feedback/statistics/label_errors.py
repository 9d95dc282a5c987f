"""Find answers that are probably wrong, by confident learning over the probabilities of several models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Values = npt.NDArray[np.float64]
Targets = npt.NDArray[np.int64]

PROBABILITY_FLOOR = 1e-7  # keeps the logarithm of an impossible category finite
NO_CATEGORY = -1


@dataclass(frozen=True)
class LabelErrors:
    """Suspected errors among the given labels of rows (n,).

    `suspicion` orders rows, the likeliest error highest, NaN where no model answered. `suggested` is the likeliest
    category of all models together. `found` marks the rows that count as errors rather than hard cases.
    """

    suspicion: Values
    suggested: Targets
    found: npt.NDArray[np.bool_]


def class_thresholds(probabilities: Array, labels: Targets) -> Values:
    """Return each class's mean probability (classes,) over the rows labelled with it; infinite without such a row."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels]
    sums = np.bincount(labels, weights=own, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_categories(probabilities: Array, labels: Targets) -> Targets:
    """Return the class that each row confidently belongs to, or `NO_CATEGORY` (Northcutt et al. 2021, equation 2).

    A probability is confident when it reaches the threshold of its class; of several, the most probable one counts.
    """
    # The tolerance lets a class whose rows all have the same probability reach its own mean.
    reached = probabilities >= class_thresholds(probabilities, labels) - 1e-12
    best = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), best, NO_CATEGORY)


def find_label_errors(models: Mapping[str, Array], labels: Targets) -> LabelErrors:
    """Find suspected errors among the given labels (n,).

    `models` hold probabilities (n, classes) of rows that they were not trained with, such as live predictions, with
    rows of NaN where a model did not answer. Each model is compared with its own thresholds, so that a cautious and an
    overconfident one can be joined (Northcutt, Jiang and Chuang 2021, "Confident Learning", section 3). A row is found
    when some model is confident of another class and none of the given one. Rows are ordered by the normalized margin
    of section 3.2 in logarithms: by how much the geometric mean of the models prefers another class.

    Raises ValueError without a model, or for a label that is no column.
    """
    if not models:
        raise ValueError("label errors need the probabilities of at least one model")
    count, classes = next(iter(models.values())).shape
    if len(labels) != count or (count and not 0 <= labels.min() <= labels.max() < classes):
        raise ValueError("every row needs a label that is a column of the probabilities")
    if not count:
        return LabelErrors(np.empty(0), labels, np.zeros(0, bool))
    log_sums, models_answering = np.zeros((count, classes)), np.zeros(count)
    is_confirmed, is_contradicted = np.zeros(count, bool), np.zeros(count, bool)
    for probabilities in models.values():
        known = np.isfinite(probabilities).all(axis=1)
        answered, given = np.asarray(probabilities[known], np.float64), labels[known]
        confident = confident_categories(answered, given)
        is_confirmed[known] |= confident == given
        is_contradicted[known] |= (confident != NO_CATEGORY) & (confident != given)
        log_sums[known] += np.log(np.maximum(answered, PROBABILITY_FLOOR))
        models_answering[known] += 1
    is_answered = models_answering > 0
    log_means = log_sums / np.maximum(models_answering, 1)[:, None]
    suspicion = np.where(is_answered, _margins(log_means, labels), np.nan)
    return LabelErrors(suspicion, log_means.argmax(axis=1), is_answered & is_contradicted & ~is_confirmed)


def _margins(log_means: Values, labels: Targets) -> Values:
    """Return by how much the best other class exceeds the given one (n,)."""
    given = np.take_along_axis(log_means, labels[:, None], axis=1)[:, 0]
    others = log_means.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    return np.asarray(others.max(axis=1) - given)
