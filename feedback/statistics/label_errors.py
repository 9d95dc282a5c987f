"""Which answers are worth a person's minute: suspected label errors first, then what else teaches."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.floating[Any]]
Values = npt.NDArray[np.float64]
Targets = npt.NDArray[np.int64]

FLOOR = 1e-7
RANDOM = "random"


@dataclass(frozen=True)
class LabelErrors:
    """What confident learning says of each row (n,).

    `suspicion` orders rows, the likeliest error highest, NaN where no model answered; `suggested` is the category that
    the models would give; `found` whether the row is counted as an error rather than a hard case.
    """

    suspicion: Values
    suggested: Targets
    found: npt.NDArray[np.bool_]


def thresholds(probabilities: Array, labels: Targets) -> Values:
    """Return the mean probability of each category over the rows (n,) labelled with it; infinite without such a row."""
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_categories(probabilities: Array, labels: Targets) -> Targets:
    """Return the category that each row confidently belongs to, -1 for none: Northcutt et al. 2021, equation 2.

    Confident is a probability that reaches the category's own threshold; of several, the most probable one counts.
    """
    reached = probabilities >= thresholds(probabilities, labels) - 1e-12
    best = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), best, -1)


def label_errors(models: Mapping[str, Array], labels: Targets) -> LabelErrors:
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
        logs[known] += np.log(np.maximum(some, FLOOR))
        answered[known] += 1
    asked = answered > 0
    logs[asked] /= answered[asked, None]
    own = np.take_along_axis(logs, labels[:, None], axis=1)[:, 0] if count else np.empty(0)
    others = logs.copy()
    if count:
        np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    suspicion = np.where(asked, others.max(axis=1, initial=-np.inf) - own, np.nan)
    return LabelErrors(suspicion, logs.argmax(axis=1) if count else labels, asked & differs & ~agrees)


def disagreement(first: Array, second: Array) -> Values:
    """Return the Jensen-Shannon divergence of two models' rows (n,) in bits, in [0, 1]; NaN where one can't answer."""
    p, q = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return np.maximum(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2, 0.0)


def entropy(probabilities: Array) -> Values:
    """Return the entropy (n,) of each row in bits; NaN for a row of NaN."""
    p = np.asarray(probabilities, np.float64)
    return np.asarray(-np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=1))


@dataclass(frozen=True)
class ReviewPriority:
    """One place in the queue: which row, and what put it there ("random", or the name of a score)."""

    row: int
    reason: str


def in_random_share(ids: Sequence[str], share: float) -> npt.NDArray[np.bool_]:
    """Return which rows (n,) belong to the random share: decided by the id alone, so no score can change it."""
    hashes = [int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big") for id in ids]
    return np.array([number < share * 2**64 for number in hashes], bool)


def review_order(ids: Sequence[str], scores: Mapping[str, Array], *, random_share: float = 0.1) -> list[ReviewPriority]:
    """Return the order in which a person should look at the rows.

    `scores` (n,) are reasons to look, higher first, NaN for none; the earlier of them win a tie. They have no common
    scale, so each is turned into ranks, equal values sharing their mean rank, and a row stands where its best rank puts
    it. In every stretch of 1 / `random_share` places one is left for the random share, in an order that says nothing
    about the rows: their labels describe all traffic. Raises ValueError for a share outside [0, 1] or a score of
    another length.
    """
    if not 0 <= random_share <= 1:
        raise ValueError(f"the random share must lie between 0 and 1, not {random_share}")
    if any(len(score) != len(ids) for score in scores.values()):
        raise ValueError("every score needs a value for each row")
    drawn = in_random_share(ids, random_share)
    best = np.full(len(ids), np.inf)
    reasons = [""] * len(ids)
    for number, (name, score) in enumerate(scores.items()):
        values = np.asarray(score, np.float64)
        known = np.flatnonzero(np.isfinite(values) & ~drawn)
        for place, row in zip(rankdata(-values[known]).tolist(), known.tolist(), strict=True):
            rank = place * len(scores) + number
            if rank < best[row]:
                best[row], reasons[row] = rank, name
    turns = {row: hashlib.blake2b(f"{ids[row]} turn".encode()).digest() for row in np.flatnonzero(drawn).tolist()}
    random = iter([ReviewPriority(row, RANDOM) for row in sorted(turns, key=lambda row: turns[row])])
    aimed = iter(
        [ReviewPriority(row, reasons[row]) for row in np.argsort(best, kind="stable").tolist() if not drawn[row]]
    )
    order: list[ReviewPriority] = []
    while len(order) < len(ids):
        owed = math.floor((len(order) + 1) * random_share + 1e-9) > math.floor(len(order) * random_share + 1e-9)
        source, other = (random, aimed) if owed else (aimed, random)
        order.append(next(source, None) or next(other))
    return order
