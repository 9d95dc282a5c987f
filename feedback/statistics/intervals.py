"""How often somebody was right, how sure one may be of that, and how far two agree."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

MINIMUM_ROWS = 30  # rows: with fewer, a figure says more about luck than about a model
ROUNDING_TOLERANCE = 1e-6  # rows that weights of equal size may lose
CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A share with its interval. `rows` were looked at; `effective` rows drawn evenly would tell as much."""

    value: float
    low: float
    high: float
    rows: int
    effective: float

    @property
    def is_enough(self) -> bool:
        return self.effective + ROUNDING_TOLERANCE >= MINIMUM_ROWS


def wilson_interval(right: float, total: float, confidence: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
    """Return the score interval of a share (Wilson 1927, equation 4). Raises ValueError for what is no share."""
    if not 0 <= right <= total or total <= 0:
        raise ValueError(f"{right} of {total} is no share")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At none and at all of them the root's rounding must not leave out the share itself.
    return max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0)


def estimate_proportion(right: int, rows: int) -> Estimate | None:
    """Return the share of rows that counted the same, of which so many are right; None without a row."""
    return Estimate(right / rows, *wilson_interval(right, rows), rows, float(rows)) if rows else None


def estimate_weighted_proportion(
    rows: float, mass: float, squares: float, right: float, right_squares: float
) -> Estimate | None:
    """Return the share of rows that are right, in all the traffic that they were drawn from; None without a row.

    A row's weight w is 1 / its chance of being looked at. Given are the sums of w and w^2 over all rows and over those
    that are right: the share is Hajek's (1971), which describes the traffic where a plain mean would describe what was
    picked, as long as everything had some chance. The interval is Wilson's at the effective number of rows: share *
    (1 - share) over the estimator's linearised variance (Korn and Graubard 1998), or Kish's (sum w)^2 / sum w^2 where
    all are right or all wrong.
    """
    if not rows:
        return None
    value = min(right / mass, 1.0)
    effective = mass**2 / squares
    variance = (right_squares * (1 - 2 * value) + value**2 * squares) / mass**2
    if 0 < right < mass and variance > 0:
        effective = min(value * (1 - value) / variance, float(rows))
    return Estimate(value, *wilson_interval(min(value * effective, effective), effective), int(rows), effective)


def accuracy_weights(accuracies: Mapping[str, Estimate | None]) -> dict[str, float] | None:
    """Return what an accuracy-weighted ensemble should weigh "text" and "image" with, as shares of 1.

    None while either has too few rows, or neither was ever right.
    """
    found = {}
    for name in ("text", "image"):
        estimate = accuracies.get(name)
        if estimate is None or not estimate.is_enough:
            return None
        found[name] = estimate.value
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else None


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa with its interval, and the plain share of agreement."""

    value: float
    low: float
    high: float
    agreement: float
    rows: int


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> Kappa | None:
    """Return how far two reviewers of the same items agree beyond chance (Cohen 1960).

    The interval is the large-sample one of Fleiss, Cohen and Everitt 1969, equation 13. None without an item, and where
    chance alone would agree always: both gave one and the same category throughout. Raises ValueError when the lengths
    differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} answers are not about the same items")
    if not len(first):
        return None
    names, codes = np.unique([*first, *second], return_inverse=True)
    a, b = codes[: len(first)], codes[len(first) :]
    joint = np.zeros((len(names), len(names)))
    np.add.at(joint, (a, b), 1 / len(first))
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    agreed, chance = float(np.trace(joint)), float(rows @ columns)
    if chance >= 1 - 1e-12:
        return None
    value = (agreed - chance) / (1 - chance)
    own = float(np.diag(joint) @ (1 - (rows + columns) * (1 - value)) ** 2)
    across = (rows[None, :] + columns[:, None]) ** 2 * joint
    crossed = (1 - value) ** 2 * float(across.sum() - np.trace(across))
    variance = (own + crossed - (value - chance * (1 - value)) ** 2) / (len(first) * (1 - chance) ** 2)
    half = float(stats.norm.ppf((1 + CONFIDENCE_LEVEL) / 2)) * math.sqrt(max(variance, 0.0))
    return Kappa(value, max(value - half, -1.0), min(value + half, 1.0), agreed, len(first))
