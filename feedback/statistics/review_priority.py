"""Order answers by how much a review of each is worth, with a random share for unbiased figures."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

RANDOM = "random"  # the reason of the rows in the random share


@dataclass(frozen=True)
class ReviewPriority:
    """One entry of the review order: the row, and its reason (a score's name, or `RANDOM`)."""

    row: int
    reason: str


def select_random_share(ids: Sequence[str], share: float) -> npt.NDArray[np.bool_]:
    """Return which rows (n,) belong to the random share.

    The hash of the id alone decides, so that no score and no reviewer can influence it.
    """
    hashes = [int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big") for id in ids]
    return np.array([number < share * 2**64 for number in hashes], bool)


def order_for_review(
    ids: Sequence[str], scores: Mapping[str, Array], *, random_share: float = 0.1
) -> list[ReviewPriority]:
    """Return the order in which people should review the rows.

    Each of the `scores` (n,) is a reason to review, higher first, NaN where it does not apply. Scores have no common
    scale, so each is converted to ranks (ties share their mean rank), and a row's place is given by its best rank; of
    equal ranks the earlier score wins. One in every 1 / `random_share` places goes to the random share, whose order is
    independent of the scores, so that its labels are a sample of all traffic.

    Raises ValueError for a share outside [0, 1] or a score of another length.
    """
    if not 0 <= random_share <= 1:
        raise ValueError(f"the random share must lie between 0 and 1, not {random_share}")
    if any(len(score) != len(ids) for score in scores.values()):
        raise ValueError("every score needs a value for each row")
    is_random = select_random_share(ids, random_share)
    random = iter(_order_randomly(ids, np.flatnonzero(is_random).tolist()))
    aimed = iter(_order_by_rank(scores, is_random))
    order: list[ReviewPriority] = []
    for place in range(len(ids)):
        # The tolerance keeps a share such as 0.1, which is no binary fraction, from losing every tenth place.
        random_before = math.floor(place * random_share + 1e-9)
        random_after = math.floor((place + 1) * random_share + 1e-9)
        if random_after > random_before:
            order.append(next(random, None) or next(aimed))
        else:
            order.append(next(aimed, None) or next(random))
    return order


def _order_randomly(ids: Sequence[str], rows: Sequence[int]) -> Iterator[ReviewPriority]:
    """Yield the rows in an order that depends on their ids alone."""

    def hashed(row: int) -> bytes:
        return hashlib.blake2b(f"{ids[row]} turn".encode()).digest()

    for row in sorted(rows, key=hashed):
        yield ReviewPriority(row, RANDOM)


def _order_by_rank(scores: Mapping[str, Array], is_random: npt.NDArray[np.bool_]) -> Iterator[ReviewPriority]:
    """Yield the rows outside the random share by their best rank among all scores, with that score as the reason."""
    from scipy.stats import rankdata

    best_rank = np.full(len(is_random), np.inf)
    reasons = [""] * len(is_random)
    for number, (name, score) in enumerate(scores.items()):
        values = np.asarray(score, np.float64)
        rows = np.flatnonzero(np.isfinite(values) & ~is_random)
        # Ranks of different scores never tie: the earlier score wins.
        ranks = rankdata(-values[rows]) * len(scores) + number
        for row, rank in zip(rows.tolist(), ranks.tolist(), strict=True):
            if rank < best_rank[row]:
                best_rank[row], reasons[row] = rank, name
    for row in np.argsort(best_rank, kind="stable").tolist():
        if not is_random[row]:
            yield ReviewPriority(row, reasons[row])
