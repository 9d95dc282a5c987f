"""Aggregate sellers' answers to totals that can be updated day by day without keeping single answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Lower bounds of the confidence bands. An answer is confident where both models predict the same category and the
# ensemble's confidence reaches the first of them.
CONFIDENCE_BANDS = (0.8, 0.95, 0.99)
# An answer in a likely second category is no evidence: one with more than this share of what the top-1 leaves over.
LIKELY_SECOND_SHARE = 0.1
PROBABILITY_FLOOR = 1e-7  # limits the surprisal of one answer to 16 nats
NO_PREDICTION = -1  # the top-1 of a model that had no input

SELLER, VERSION, BAND, PREDICTED, CHOSEN, NATS = range(6)  # columns of SellerTotals.keys
KEY_COLUMNS = 6


@dataclass(frozen=True)
class AnswerLog:
    """Answers as columns (n,). Categories, sellers and versions are the caller's numbers, 0 or more.

    `predicted` and `confidence` are the ensemble's top-1 and its probability, `text_top` and `image_top` the top-1 of
    each model or `NO_PREDICTION`. `text_probability`, `image_probability` and `ensemble_probability` are those of the
    chosen category, NaN where a model gave none. `answered_at` is in seconds since 1970, UTC.
    """

    seller: Ints
    version: Ints
    predicted: Ints
    chosen: Ints
    text_top: Ints
    image_top: Ints
    confidence: Floats
    text_probability: Floats
    image_probability: Floats
    ensemble_probability: Floats
    answered_at: Floats

    def __post_init__(self) -> None:
        if len({len(column) for column in vars(self).values()}) != 1:
            raise ValueError("the columns of a log differ in length")

    def __len__(self) -> int:
        return len(self.seller)

    def select(self, rows: npt.NDArray[np.bool_] | Ints) -> Self:
        """Return the log of some rows, given by a mask (n,) or by row numbers."""
        return type(self)(**{name: column[rows] for name, column in vars(self).items()})

    def surprisal(self) -> Floats:
        """Return -ln p(chosen) (n,) in nats; NaN where no model gave a probability.

        p is the largest of the three probabilities: if one model understands the seller's choice, it is in doubt.
        """
        probabilities = np.stack([self.text_probability, self.image_probability, self.ensemble_probability])
        largest = np.where(np.isnan(probabilities), -np.inf, probabilities).max(axis=0, initial=-np.inf)
        return np.where(np.isfinite(largest), -np.log(np.clip(largest, PROBABILITY_FLOOR, 1)), np.nan)

    def confidence_band(self) -> Ints:
        """Return each answer's confidence band (n,), 1 for the lowest; 0 where the answer is no evidence."""
        band = np.digitize(np.nan_to_num(self.confidence), CONFIDENCE_BANDS)
        models_agree = (self.text_top == self.predicted) & (self.image_top == self.predicted)
        remainder = 1 - self.confidence
        is_likely_second = (self.chosen != self.predicted) & (
            self.ensemble_probability > LIKELY_SECOND_SHARE * remainder
        )
        is_evidence = models_agree & ~is_likely_second & np.isfinite(self.surprisal())
        return np.where(is_evidence, band, 0).astype(np.int64)


@dataclass(frozen=True)
class SellerTotals:
    """Numbers of answers by seller, version, confidence band, predicted and chosen category, and whole nats.

    `keys` (n, 6) int64 holds these in the order of the constants `SELLER` to `NATS`, sorted and unique; `count` (n,)
    int64 the answers; `surprisal` (n,) float64 their summed surprisal in nats. The size depends on how many different
    things sellers do, not on how many answers there are; no single answer is kept.
    """

    keys: Ints
    count: Ints
    surprisal: Floats

    @classmethod
    def empty(cls) -> Self:
        return cls(np.empty((0, KEY_COLUMNS), np.int64), np.empty(0, np.int64), np.empty(0))

    def select(self, rows: npt.NDArray[np.bool_]) -> Self:
        """Return the totals of some rows, given by a mask (n,)."""
        return type(self)(self.keys[rows], self.count[rows], self.surprisal[rows])

    def without_seller(self, seller: int) -> Self:
        """Return the totals without one seller, whose case was cleared: those answers are no evidence any more."""
        return self.select(self.keys[:, SELLER] != seller)


def add_answers(totals: SellerTotals, log: AnswerLog, cleared: Mapping[int, float] | None = None) -> SellerTotals:
    """Return the totals with the answers of a log added.

    Adding day by day gives the same totals as adding everything at once. `cleared` is when a seller's latest case was
    cleared, in seconds since 1970; answers up to that time are ignored.
    """
    return _combine(totals, log, cleared, sign=1)


def remove_answers(totals: SellerTotals, log: AnswerLog, cleared: Mapping[int, float] | None = None) -> SellerTotals:
    """Return the totals without the answers of a log that had been added, such as answers that sellers changed."""
    left = _combine(totals, log, cleared, sign=-1)
    return left.select(left.count > 0)


def _combine(totals: SellerTotals, log: AnswerLog, cleared: Mapping[int, float] | None, *, sign: int) -> SellerTotals:
    if cleared:
        cleared_at = np.array([cleared.get(int(seller), -np.inf) for seller in log.seller])
        log = log.select(log.answered_at > cleared_at)
    if not len(log):
        return totals
    surprisal = np.nan_to_num(log.surprisal())
    log_keys = np.stack(
        [log.seller, log.version, log.confidence_band(), log.predicted, log.chosen, surprisal.astype(np.int64)], axis=1
    )
    keys = np.concatenate([totals.keys, log_keys])
    surprisals = np.concatenate([totals.surprisal, sign * surprisal])
    counts = np.concatenate([totals.count, np.full(len(log), sign, np.int64)])
    # Sort by all key columns, then add up each run of equal keys.
    order = np.lexsort(keys.T[::-1])
    keys = keys[order]
    differs_from_previous = (keys[1:] != keys[:-1]).any(axis=1)
    first = np.flatnonzero(np.concatenate([[True], differs_from_previous]))
    return SellerTotals(keys[first], np.add.reduceat(counts[order], first), np.add.reduceat(surprisals[order], first))
