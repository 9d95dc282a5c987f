"""Estimate proportions with Wilson's interval, also from weighted rows, and the agreement of two reviewers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Self

import numpy as np

from common.intervals import NORMAL_QUANTILE, wilson_interval

MINIMUM_ROWS = 30  # with fewer, a proportion is mostly chance
ROUNDING_TOLERANCE = 1e-6  # rows that rounding may cost when all weights are equal


@dataclass(frozen=True)
class Estimate:
    """A proportion with its 95 % interval.

    `rows` is how many rows were counted; `effective` is how many equally weighted rows would be as informative.
    """

    value: float
    low: float
    high: float
    rows: int
    effective: float

    @property
    def is_enough(self) -> bool:
        return self.effective + ROUNDING_TOLERANCE >= MINIMUM_ROWS


def estimate_proportion(successes: int, rows: int) -> Estimate | None:
    """Return the proportion of equally weighted rows that are successes; None without a row."""
    if not rows:
        return None
    low, high = wilson_interval(successes, rows)
    return Estimate(successes / rows, low, high, rows, float(rows))


@dataclass(frozen=True)
class WeightedSums:
    """Sums over rows with weights w = 1 / inclusion probability: the sufficient statistics of a weighted proportion.

    `weight` is the sum of w and `weight_squared` that of w²; `correct_weight` and `correct_weight_squared` are the same
    sums over the correct rows alone.
    """

    rows: float = 0.0
    weight: float = 0.0
    weight_squared: float = 0.0
    correct_weight: float = 0.0
    correct_weight_squared: float = 0.0

    def __add__(self, other: Self) -> Self:
        mine, theirs = asdict(self), asdict(other)
        return type(self)(**{name: mine[name] + theirs[name] for name in mine})

    @classmethod
    def from_row(cls, weight: float, *, is_correct: bool) -> Self:
        if is_correct:
            return cls(1, weight, weight**2, weight, weight**2)
        return cls(1, weight, weight**2, 0.0, 0.0)

    def to_json(self) -> list[float]:
        """Return the sums in the order in which summaries store them."""
        return list(astuple(self))


def estimate_weighted_proportion(sums: WeightedSums) -> Estimate | None:
    """Return the proportion of correct rows in the traffic that the rows were sampled from; None without a row.

    The proportion is Hájek's estimator (1971), which is unbiased for the traffic as long as every row had some chance
    of being sampled. The interval is Wilson's at the effective number of rows: value * (1 - value) divided by the
    linearised variance of the estimator (Korn and Graubard 1998), or Kish's (sum w)² / sum w² where all rows are
    correct or none is.
    """
    if not sums.rows:
        return None
    value = min(sums.correct_weight / sums.weight, 1.0)
    effective = sums.weight**2 / sums.weight_squared
    squared_residuals = sums.correct_weight_squared * (1 - 2 * value) + value**2 * sums.weight_squared
    variance = squared_residuals / sums.weight**2
    if 0 < sums.correct_weight < sums.weight and variance > 0:
        effective = min(value * (1 - value) / variance, float(sums.rows))
    low, high = wilson_interval(min(value * effective, effective), effective)
    return Estimate(value, low, high, int(sums.rows), effective)


def accuracy_weights(accuracies: Mapping[str, Estimate | None]) -> dict[str, float] | None:
    """Return the weights of "text" and "image" in an accuracy-weighted ensemble, as shares of 1.

    None while either has too few rows, or where both accuracies are 0.
    """
    found = {}
    for name in ("text", "image"):
        estimate = accuracies.get(name)
        if estimate is None or not estimate.is_enough:
            return None
        found[name] = estimate.value
    total = sum(found.values())
    if total == 0:
        return None
    return {name: value / total for name, value in found.items()}


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa with its 95 % interval, and the plain proportion of agreement."""

    value: float
    low: float
    high: float
    agreement: float
    rows: int


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> Kappa | None:
    """Return how far two reviewers of the same items agree beyond chance (Cohen 1960).

    The interval is the large-sample one of Fleiss, Cohen and Everitt 1969, equation 13. None without an item, and where
    both reviewers gave one and the same category throughout, so that chance alone would always agree. Raises ValueError
    when the lengths differ.
    """
    from scipy import stats

    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} answers are not about the same items")
    if not len(first):
        return None
    names = sorted({*first, *second})
    joint = stats.contingency.crosstab(list(first), list(second), levels=(names, names)).count / len(first)
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    agreement, chance = float(np.trace(joint)), float(rows @ columns)
    if chance >= 1 - 1e-12:
        return None
    value = (agreement - chance) / (1 - chance)
    diagonal = float(np.diag(joint) @ (1 - (rows + columns) * (1 - value)) ** 2)
    weighted = (rows[None, :] + columns[:, None]) ** 2 * joint
    off_diagonal = (1 - value) ** 2 * float(weighted.sum() - np.trace(weighted))
    correction = (value - chance * (1 - value)) ** 2
    variance = (diagonal + off_diagonal - correction) / (len(first) * (1 - chance) ** 2)
    half_width = NORMAL_QUANTILE * math.sqrt(max(variance, 0.0))
    return Kappa(value, max(value - half_width, -1.0), min(value + half_width, 1.0), agreement, len(first))
