"""Accuracy without labels: confidence-based performance estimation.

As NannyML describes it ("Confidence-based Performance Estimation (CBPE)"): where probabilities are calibrated, the mean
of the top probability is the accuracy to expect. It holds while the relation between confidence and being right does;
a shift that the models are confidently wrong about stays unseen, which is what drift and unusual inputs are for.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from feedback.statistics.intervals import CONFIDENCE_LEVEL, MINIMUM_ROWS

Array = npt.NDArray[np.floating[Any]]

ROWS_PER_GROUP = 50  # rows of the reference that share a step, so that no step is 0 or 1 by luck


@dataclass(frozen=True)
class Calibrator:
    """How often the likeliest category is right, by its probability: knots with straight lines between them."""

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    rows: tuple[int, ...]

    @classmethod
    def fit(cls, confidence: Array, right: npt.NDArray[np.bool_]) -> Self | None:
        """Fit to the reference: labelled products (n,) that the models were not trained with; None with too few.

        Isotonic regression (Zadrozny and Elkan 2002) over groups of at least 50 neighbours in confidence.
        """
        known = np.isfinite(confidence)
        confidence, right = np.asarray(confidence, np.float64)[known], np.asarray(right, bool)[known]
        if len(right) < MINIMUM_ROWS:
            return None
        order = np.argsort(confidence, kind="stable")
        groups = _groups(order, confidence)
        sizes = np.array([len(group) for group in groups])
        shares = [float(right[group].mean()) for group in groups]
        rising = optimize.isotonic_regression(shares, weights=sizes).x
        knots = tuple(float(confidence[group].mean()) for group in groups)
        return cls(knots, tuple(float(x) for x in rising), tuple(int(size) for size in sizes))

    def apply(self, confidence: Array) -> npt.NDArray[np.float64]:
        """Return the chance (n,) that each likeliest category is right."""
        return np.asarray(np.interp(np.asarray(confidence, np.float64), self.confidence, self.accuracy))

    def variance(self, confidence: Array, counts: Array | None = None) -> float:
        """Return the variance that a mean over these rows has because the knots were measured themselves."""
        knots = len(self.confidence)
        each = [np.interp(confidence, self.confidence, row) for row in np.eye(knots)]
        shares = np.array([np.average(row, weights=counts) for row in each])
        sizes = np.array(self.rows)
        smoothed = (np.array(self.accuracy) * sizes + 1) / (sizes + 2)  # a step that was always right can err too
        return float(np.sum(shares**2 * smoothed * (1 - smoothed) / sizes))

    def to_json(self) -> dict[str, list[float]]:
        return {"confidence": [*self.confidence], "accuracy": [*self.accuracy], "rows": [*self.rows]}

    @classmethod
    def from_json(cls, content: Mapping[str, Sequence[float]]) -> Self:
        rows = tuple(int(size) for size in content["rows"])
        return cls(tuple(content["confidence"]), tuple(content["accuracy"]), rows)


def _groups(order: npt.NDArray[np.intp], confidence: Array) -> list[npt.NDArray[np.intp]]:
    """Split rows in order of confidence into groups of `ROWS_PER_GROUP` or more; equal confidences stay together."""
    starts = np.append(np.unique(confidence[order], return_index=True)[1], len(order))
    cuts, begin = [], 0
    for place in starts:
        if place - begin >= ROWS_PER_GROUP and len(order) - place >= ROWS_PER_GROUP:
            cuts.append(place)
            begin = place
    return np.split(order, cuts)


@dataclass(frozen=True)
class AccuracyEstimate:
    """The accuracy to expect of these rows, and the interval in which the true one lies if nothing else changed."""

    accuracy: float
    low: float
    high: float
    rows: int


def estimate_accuracy(
    confidence: Array, calibrator: Calibrator, counts: Array | None = None
) -> AccuracyEstimate | None:
    """Return the expected accuracy of a window of top probabilities (n,), NaN left out; None with too few rows.

    `counts` (n,): how many rows have each of the probabilities, default one. The interval adds up the chance of the
    window itself, the mean of p (1 - p) over n, and that of the calibrator.
    """
    known = np.asarray(confidence, np.float64)
    rows = np.ones(len(known)) if counts is None else np.asarray(counts, np.float64)
    known, rows = known[np.isfinite(known)], rows[np.isfinite(known)]
    total = float(rows.sum())
    if total < MINIMUM_ROWS:
        return None
    chances = calibrator.apply(known)
    mean = float(np.average(chances, weights=rows))
    variance = float(np.average(chances * (1 - chances), weights=rows)) / total + calibrator.variance(known, rows)
    half = float(stats.norm.ppf((1 + CONFIDENCE_LEVEL) / 2)) * math.sqrt(variance)
    return AccuracyEstimate(mean, max(mean - half, 0.0), min(mean + half, 1.0), int(total))
