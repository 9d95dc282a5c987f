"""How often the models were right, how sure one may be of that, and where they were wrong."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]
Targets = npt.NDArray[np.int64]

LEAST = 30  # rows: with fewer, a figure says more about luck than about a model
ROUNDING = 1e-6  # rows that weights of equal size may lose
CONFIDENCE = 0.95
BINS = 15  # as in table 1 of Guo et al. 2017
UNKNOWN = -1  # a category that is none of the columns


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
        return self.effective + ROUNDING >= LEAST


def wilson(right: float, total: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the score interval of a share (Wilson 1927, equation 4). Raises ValueError for what is no share."""
    if not 0 <= right <= total or total <= 0:
        raise ValueError(f"{right} of {total} is no share")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At none and at all of them the root's rounding must not leave out the share itself.
    return max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0)


def share(right: npt.NDArray[np.bool_], inclusion: Values | None = None) -> Estimate | None:
    """Return the share of rows (n,) that are right, in all the traffic that they were drawn from; None without a row.

    `inclusion` (n,) is each row's probability of having been looked at: 1 for what review was aimed at (suspected
    errors, low confidence), the random share for the rest. A plain mean over such a mixture describes the queue, not
    the traffic; weighting each row by 1 / inclusion (Hajek 1971) describes the traffic, as long as everything had some
    chance to be looked at. The interval is Wilson's at the effective number of rows: share * (1 - share) over the
    estimator's linearised variance (Korn and Graubard 1998), or Kish's (sum w)^2 / sum w^2 where all are right or all
    wrong. Raises ValueError for a probability outside (0, 1].
    """
    if not len(right):
        return None
    weights = np.ones(len(right)) if inclusion is None else _weights(inclusion, len(right))
    value = float(np.average(right, weights=weights))
    total = float(weights.sum())
    effective = total**2 / float(weights @ weights)
    variance = float(np.sum((weights * (right - value)) ** 2)) / total**2
    if variance > 0:
        effective = min(value * (1 - value) / variance, float(len(right)))
    low, high = wilson(min(value * effective, effective), effective)
    return Estimate(value, low, high, len(right), effective)


def share_of(right: int, rows: int) -> Estimate | None:
    """Return the share of rows that counted the same, of which so many are right; None without a row."""
    return Estimate(right / rows, *wilson(right, rows), rows, float(rows)) if rows else None


def weighted_share(rows: float, mass: float, squares: float, right: float, right_squares: float) -> Estimate | None:
    """Return what `share` returns from sums over the rows: of weights w, of w^2, and of both over those that are right.

    None without a row.
    """
    if not rows:
        return None
    value = min(right / mass, 1.0)
    effective = mass**2 / squares
    variance = (right_squares * (1 - 2 * value) + value**2 * squares) / mass**2
    if 0 < right < mass and variance > 0:
        effective = min(value * (1 - value) / variance, float(rows))
    return Estimate(value, *wilson(min(value * effective, effective), effective), int(rows), effective)


def accuracy(
    probabilities: npt.NDArray[np.floating[Any]], targets: Targets, inclusion: Values | None = None
) -> Estimate | None:
    """Return how often the likeliest column of (n, classes) is the target; rows of NaN are left out."""
    return top_k(probabilities, targets, 1, inclusion)


def top_k(
    probabilities: npt.NDArray[np.floating[Any]], targets: Targets, k: int, inclusion: Values | None = None
) -> Estimate | None:
    """Return how often the target is among the k likeliest columns; of equals the first column comes first.

    A target of `UNKNOWN`, a category that the models don't have, is never among them. Rows of NaN, of a model that
    could not answer, are left out; None when no row is left.
    """
    known = np.isfinite(probabilities).all(axis=1)
    if not known.any():
        return None
    asked, wanted = probabilities[known], targets[known]
    best = np.argsort(-asked, axis=1, kind="stable")[:, :k]
    hit = (best == wanted[:, None]).any(axis=1)
    return share(hit, None if inclusion is None else inclusion[known])


def by_model(
    models: Mapping[str, npt.NDArray[np.floating[Any]]], targets: Targets, inclusion: Values | None = None
) -> dict[str, Estimate | None]:
    """Return each model's accuracy on the products that all of them answered, so that the figures can be compared."""
    known = np.logical_and.reduce([np.isfinite(p).all(axis=1) for p in models.values()])
    weights = None if inclusion is None else inclusion[known]
    return {name: accuracy(p[known], targets[known], weights) for name, p in models.items()}


def weights(accuracies: Mapping[str, Estimate | None]) -> dict[str, float] | None:
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
class Bin:
    """One bar of a reliability diagram: the rows whose confidence lies in [low, high), and what came of them."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """The bins, and the expected calibration error: the bins' |accuracy - confidence|, weighted by their rows."""

    bins: list[Bin]
    error: float


def calibration(
    confidence: npt.NDArray[np.floating[Any]], right: npt.NDArray[np.bool_], inclusion: Values | None = None
) -> Calibration | None:
    """Return how honest the top probabilities (n,) are: Guo et al. 2017, equation 3, over 15 equally wide bins.

    `inclusion` as in `share`. None without a row.
    """
    if not len(right):
        return None
    mass = np.ones(len(right)) if inclusion is None else _weights(inclusion, len(right))
    confidence = np.asarray(confidence, np.float64)
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    rows, masses, sure, hit = (
        np.bincount(place, weights=values, minlength=BINS)
        for values in (np.ones(len(right)), mass, mass * confidence, mass * right)
    )
    bins = [
        Bin(
            b / BINS,
            (b + 1) / BINS,
            int(rows[b]),
            *((sure[b] / masses[b], hit[b] / masses[b]) if rows[b] else (None,) * 2),
        )
        for b in range(BINS)
    ]
    return Calibration(bins, float(np.abs(hit - sure).sum() / mass.sum()))


@dataclass(frozen=True)
class Cell:
    """Products of one category that were given one: how many, and the rows of the surest."""

    true: int
    given: int
    count: int
    examples: list[int]


def confusion(
    given: Targets, confidence: npt.NDArray[np.floating[Any]], targets: Targets, examples: int = 5
) -> list[Cell]:
    """Return the cells that aren't empty, the right answers included, the fullest first.

    `given` and `targets` (n,) are columns; `confidence` (n,) orders the examples. Sparse, for there may be thousands
    of categories.
    """
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    cells: dict[tuple[int, int], list[int]] = {}
    for row in order:
        cells.setdefault((int(targets[row]), int(given[row])), []).append(int(row))
    found = [Cell(true, said, len(rows), rows[:examples]) for (true, said), rows in cells.items()]
    return sorted(found, key=lambda cell: (-cell.count, cell.true, cell.given))


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa with its interval, and the plain share of agreement."""

    value: float
    low: float
    high: float
    agreement: float
    rows: int


def kappa(first: Sequence[str], second: Sequence[str]) -> Kappa | None:
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
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(max(variance, 0.0))
    return Kappa(value, max(value - half, -1.0), min(value + half, 1.0), agreed, len(first))


def _weights(inclusion: Values, rows: int) -> Values:
    given = np.asarray(inclusion, np.float64)
    if given.shape != (rows,) or not np.all((given > 0) & (given <= 1)):
        raise ValueError(f"{rows} rows need as many probabilities above 0 and up to 1")
    return 1 / given
