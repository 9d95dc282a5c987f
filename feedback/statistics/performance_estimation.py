"""Estimate accuracy without labels, from calibrated confidence.

This is Confidence-based Performance Estimation (CBPE) as NannyML describes it: where probabilities are calibrated, the
mean top probability is the expected accuracy. The estimate holds as long as the relation between confidence and
accuracy does. It cannot see a shift about which the models are confidently wrong; drift and out-of-distribution
detection are for those.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from common.intervals import NORMAL_QUANTILE
from feedback.statistics.intervals import MINIMUM_ROWS

Array = npt.NDArray[np.floating[Any]]

ROWS_PER_GROUP = 50  # at least: the accuracy of a smaller group would often be 0 or 1 by chance


@dataclass(frozen=True)
class Calibrator:
    """A map from confidence to accuracy: knots with straight lines between them, and the rows behind each knot."""

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    rows: tuple[int, ...]

    @classmethod
    def fit(cls, confidence: Array, is_correct: npt.NDArray[np.bool_]) -> Self | None:
        """Fit to labelled products (n,) that the models were not trained with; None with too few of them.

        Isotonic regression (Zadrozny and Elkan 2002) over groups of at least `ROWS_PER_GROUP` neighbours in confidence.
        """
        from scipy import optimize

        known = np.isfinite(confidence)
        confidence, is_correct = np.asarray(confidence, np.float64)[known], np.asarray(is_correct, bool)[known]
        if len(is_correct) < MINIMUM_ROWS:
            return None
        order = np.argsort(confidence, kind="stable")
        groups = _split_into_groups(order, confidence)
        sizes = np.array([len(group) for group in groups])
        accuracies = [float(is_correct[group].mean()) for group in groups]
        rising = optimize.isotonic_regression(accuracies, weights=sizes).x
        knots = tuple(float(confidence[group].mean()) for group in groups)
        return cls(knots, tuple(float(x) for x in rising), tuple(int(size) for size in sizes))

    def apply(self, confidence: Array) -> npt.NDArray[np.float64]:
        """Return the probability (n,) that each likeliest category is correct."""
        return np.asarray(np.interp(np.asarray(confidence, np.float64), self.confidence, self.accuracy))

    def variance(self, confidence: Array, counts: Array | None = None) -> float:
        """Return the variance of a mean over these rows that comes from the knots being estimates themselves."""
        knots = len(self.confidence)
        knot_weights = [np.interp(confidence, self.confidence, row) for row in np.eye(knots)]
        shares = np.array([np.average(row, weights=counts) for row in knot_weights])
        sizes = np.array(self.rows)
        # Laplace's rule: a group without an error still has a variance.
        smoothed = (np.array(self.accuracy) * sizes + 1) / (sizes + 2)
        return float(np.sum(shares**2 * smoothed * (1 - smoothed) / sizes))

    def to_json(self) -> dict[str, list[float]]:
        return {"confidence": [*self.confidence], "accuracy": [*self.accuracy], "rows": [*self.rows]}

    @classmethod
    def from_json(cls, content: Mapping[str, Sequence[float]]) -> Self:
        rows = tuple(int(size) for size in content["rows"])
        return cls(tuple(content["confidence"]), tuple(content["accuracy"]), rows)


def _split_into_groups(order: npt.NDArray[np.intp], confidence: Array) -> list[npt.NDArray[np.intp]]:
    """Split rows, in order of confidence, into groups of `ROWS_PER_GROUP` or more; equal confidences stay together."""
    starts = np.append(np.unique(confidence[order], return_index=True)[1], len(order))
    cuts, begin = [], 0
    for place in starts:
        if place - begin >= ROWS_PER_GROUP and len(order) - place >= ROWS_PER_GROUP:
            cuts.append(place)
            begin = place
    return np.split(order, cuts)


@dataclass(frozen=True)
class AccuracyEstimate:
    """An expected accuracy with the 95 % interval that holds unless the relation of confidence to accuracy changed."""

    accuracy: float
    low: float
    high: float
    rows: int


def estimate_accuracy(
    confidence: Array, calibrator: Calibrator, counts: Array | None = None
) -> AccuracyEstimate | None:
    """Return the expected accuracy of predictions with these top probabilities (n,); None with too few rows.

    NaN is left out. `counts` (n,) is how many rows have each probability, one by default. The variance is that of the
    predictions themselves, the mean of p (1 - p) over n, plus that of the calibrator.
    """
    known = np.asarray(confidence, np.float64)
    rows = np.ones(len(known)) if counts is None else np.asarray(counts, np.float64)
    known, rows = known[np.isfinite(known)], rows[np.isfinite(known)]
    total = float(rows.sum())
    if total < MINIMUM_ROWS:
        return None
    accuracies = calibrator.apply(known)
    mean = float(np.average(accuracies, weights=rows))
    binomial_variance = float(np.average(accuracies * (1 - accuracies), weights=rows)) / total
    half_width = NORMAL_QUANTILE * math.sqrt(binomial_variance + calibrator.variance(known, rows))
    return AccuracyEstimate(mean, max(mean - half_width, 0.0), min(mean + half_width, 1.0), int(total))
