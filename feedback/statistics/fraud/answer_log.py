"""A log of sellers' answers, summed up so that a day can be folded into what is known and then forgotten."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# A disagreement is evidence only where both models name one category and their ensemble is this sure of it.
CONFIDENCE_BANDS = (0.8, 0.95, 0.99)
# Nor where the chosen category is a likely second: it has more than this share of what the likeliest one leaves over.
LIKELY_SECOND_SHARE = 0.1
PROBABILITY_FLOOR = 1e-7  # what a model calls impossible is as surprising as this: 16 nats
NO_PREDICTION = -1  # the top-1 of a model that had nothing to look at

SELLER, VERSION, BAND, PREDICTED, CHOSEN, NATS = range(6)


@dataclass(frozen=True)
class AnswerLog:
    """Answers as columns (n,); categories, sellers and versions are numbers of the caller's choice, 0 or more.

    `text`, `image`, `ensemble`: each one's probability of the chosen category; NaN where it gave none. `text_top` and
    `image_top`: each model's likeliest category, or `NO_PREDICTION`. `predicted` and `confidence`: the ensemble's
    likeliest category and its probability. `answered_at`: seconds since 1970, UTC.
    """

    seller: Ints
    version: Ints
    predicted: Ints
    chosen: Ints
    text_top: Ints
    image_top: Ints
    confidence: Floats
    text: Floats
    image: Floats
    ensemble: Floats
    answered_at: Floats

    def __post_init__(self) -> None:
        if len({len(column) for column in vars(self).values()}) != 1:
            raise ValueError("the columns of a log differ in length")

    def __len__(self) -> int:
        return len(self.seller)

    def where(self, wanted: npt.NDArray[np.bool_] | Ints) -> Self:
        return type(self)(**{name: column[wanted] for name, column in vars(self).items()})

    def surprise(self) -> Floats:
        """Return -log p(chosen), in nats, by the model that thinks the chosen category likeliest; NaN where none spoke.

        The kindest of the three: one model that sees the seller's point is enough for a doubt.
        """
        spoken = np.stack([self.text, self.image, self.ensemble])
        kindest = np.where(np.isnan(spoken), -np.inf, spoken).max(axis=0, initial=-np.inf)
        return np.where(np.isfinite(kindest), -np.log(np.clip(kindest, PROBABILITY_FLOOR, 1)), np.nan)

    def band(self) -> Ints:
        """Return the confidence band of each answer, 1 for the lowest; 0 where it can be no evidence."""
        sure = np.digitize(np.nan_to_num(self.confidence), CONFIDENCE_BANDS)
        agreed = (self.text_top == self.predicted) & (self.image_top == self.predicted)
        second = (self.chosen != self.predicted) & (self.ensemble > LIKELY_SECOND_SHARE * (1 - self.confidence))
        return np.where(agreed & ~second & np.isfinite(self.surprise()), sure, 0).astype(np.int64)


@dataclass(frozen=True)
class SellerTotals:
    """Answers that have seller, version, band, predicted and chosen category and whole nats of surprise in common.

    `keys` (n, 6) int64 in that order, sorted, each once; `count` (n,) int64; `surprise` (n,) float64, nats summed. It
    grows with the different things that sellers do, not with the answers: nothing of a single answer is kept.
    """

    keys: Ints
    count: Ints
    surprise: Floats

    @classmethod
    def empty(cls) -> Self:
        return cls(np.empty((0, 6), np.int64), np.empty(0, np.int64), np.empty(0))

    def without(self, seller: int) -> Self:
        """Return the tally without one seller's answers: a case was cleared, and its evidence is spent."""
        kept = self.keys[:, SELLER] != seller
        return type(self)(self.keys[kept], self.count[kept], self.surprise[kept])


def add_answers(tally: SellerTotals, log: AnswerLog, cleared: Mapping[int, float] | None = None) -> SellerTotals:
    """Return the tally with a log added. Folding day by day gives what folding all at once gives.

    `cleared`: when a seller's case was cleared last, in seconds since 1970; answers up to then are left out.
    """
    return _added(tally, log, cleared, 1)


def remove_answers(tally: SellerTotals, log: AnswerLog, cleared: Mapping[int, float] | None = None) -> SellerTotals:
    """Return the tally without a log that was folded into it: answers that were changed since."""
    left = _added(tally, log, cleared, -1)
    kept = left.count > 0
    return SellerTotals(left.keys[kept], left.count[kept], left.surprise[kept])


def _added(tally: SellerTotals, log: AnswerLog, cleared: Mapping[int, float] | None, times: int) -> SellerTotals:
    if cleared:
        since = np.array([cleared.get(int(seller), -np.inf) for seller in log.seller])
        log = log.where(log.answered_at > since)
    if not len(log):
        return tally
    surprise = np.nan_to_num(log.surprise())
    added = np.stack(
        [log.seller, log.version, log.band(), log.predicted, log.chosen, surprise.astype(np.int64)], axis=1
    )
    keys = np.concatenate([tally.keys, added])
    sums = np.concatenate([tally.surprise, times * surprise])
    counts = np.concatenate([tally.count, np.full(len(log), times, np.int64)])
    order = np.lexsort(keys.T[::-1])
    keys = keys[order]
    first = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)])
    return SellerTotals(keys[first], np.add.reduceat(counts[order], first), np.add.reduceat(sums[order], first))
