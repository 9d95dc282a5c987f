"""Compare confidence with accuracy: reliability diagram, expected calibration error, and recalibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feedback.statistics.performance_estimation import AccuracyEstimate, Calibrator, estimate_accuracy

RELIABILITY_BINS = 15  # as in table 1 of Guo et al. 2017
CONFIDENCE_STEPS = 10 * RELIABILITY_BINS


@dataclass(frozen=True)
class ConfidenceSums:
    """Predictions in one step of confidence: how many, and the sum of their top probabilities."""

    rows: float = 0.0
    confidence: float = 0.0

    def __add__(self, other: "ConfidenceSums") -> "ConfidenceSums":
        return ConfidenceSums(self.rows + other.rows, self.confidence + other.confidence)

    def to_json(self) -> list[float]:
        """Return the sums in the order in which summaries store them."""
        return [self.rows, self.confidence]


@dataclass(frozen=True)
class ReliabilitySums:
    """Reviewed rows in one step of confidence, with weights w = 1 / inclusion probability.

    `weight` is the sum of w, `confidence` that of w * top probability, `correct` that of w over the correct rows.
    """

    rows: float = 0.0
    weight: float = 0.0
    confidence: float = 0.0
    correct: float = 0.0

    def __add__(self, other: "ReliabilitySums") -> "ReliabilitySums":
        return ReliabilitySums(
            self.rows + other.rows,
            self.weight + other.weight,
            self.confidence + other.confidence,
            self.correct + other.correct,
        )

    @classmethod
    def from_row(cls, weight: float, confidence: float, *, is_correct: bool) -> "ReliabilitySums":
        return cls(1, weight, weight * confidence, weight * is_correct)

    def to_json(self) -> list[float]:
        """Return the sums in the order in which summaries store them."""
        return [self.rows, self.weight, self.confidence, self.correct]


@dataclass(frozen=True)
class ReliabilityBin:
    """One bar of a reliability diagram: rows whose confidence lies in [low, high); without a row the means are None."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Equally wide bins, and the expected calibration error: |accuracy - confidence| of the bins, weighted by rows."""

    bins: list[ReliabilityBin]
    error: float


def read_reliability(content: Mapping[str, Sequence[float]]) -> dict[int, ReliabilitySums]:
    """Return stored sums by step of confidence; JSON stores the steps as text."""
    return {int(step): ReliabilitySums(*sums) for step, sums in content.items()}


def confidence_step(confidence: float) -> int:
    """Return the step, 0 to 149, of a top probability."""
    return min(int(confidence * CONFIDENCE_STEPS), CONFIDENCE_STEPS - 1)


def reliability_diagram(reliability: Mapping[int, ReliabilitySums]) -> ReliabilityDiagram | None:
    """Return the reliability diagram and the ECE of reviewed rows, by step of confidence; None without a row.

    Guo et al. 2017, "On calibration of modern neural networks", equation 3.
    """
    if not reliability:
        return None
    sums = [ReliabilitySums()] * RELIABILITY_BINS
    for step, entry in reliability.items():
        number = step * RELIABILITY_BINS // CONFIDENCE_STEPS
        sums[number] = sums[number] + entry
    bins = [_make_bin(number, entry) for number, entry in enumerate(sums)]
    gap = sum(abs(entry.correct - entry.confidence) for entry in sums)
    return ReliabilityDiagram(bins, gap / sum(entry.weight for entry in sums))


def fit_calibrator(reliability: Mapping[int, ReliabilitySums]) -> Calibrator | None:
    """Fit a calibrator to reviewed rows, each placed at its step's mean confidence; None with too few rows."""
    confidence: list[float] = []
    is_correct: list[bool] = []
    for sums in reliability.values():
        rows = int(sums.rows)
        correct = round(rows * sums.correct / sums.weight)
        confidence += [sums.confidence / sums.weight] * rows
        is_correct += [True] * correct + [False] * (rows - correct)
    # The calibrator keeps ties in order: unshuffled, the correct rows of each step would come first.
    order = np.random.default_rng(18).permutation(len(confidence))
    return Calibrator.fit(np.array(confidence)[order], np.array(is_correct, bool)[order])


def estimate_from_histogram(
    confidence: Mapping[int, ConfidenceSums], calibrator: Calibrator
) -> AccuracyEstimate | None:
    """Return the expected accuracy of predictions from the mean confidence of each step; None with too few rows."""
    if not confidence:
        return None
    rows = np.array([sums.rows for sums in confidence.values()], np.float64)
    totals = np.array([sums.confidence for sums in confidence.values()], np.float64)
    return estimate_accuracy(totals / rows, calibrator, rows)


def _make_bin(number: int, sums: ReliabilitySums) -> ReliabilityBin:
    low, high = number / RELIABILITY_BINS, (number + 1) / RELIABILITY_BINS
    if not sums.rows:
        return ReliabilityBin(low, high, 0, None, None)
    return ReliabilityBin(low, high, int(sums.rows), sums.confidence / sums.weight, sums.correct / sums.weight)
