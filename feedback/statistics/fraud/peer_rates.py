"""Estimate robustly how often other sellers do the same in the same situation.

An *event* is something that a seller may do (such as a surprising answer), a *trial* a product in which it could
happen, and a *cell* a situation (such as one predicted category).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from feedback.statistics.fraud.answer_log import Floats, Ints

# c: a seller counts for at most this multiple of the usual rate. With 2, what more than half of the sellers do becomes
# the usual rate, and what a smaller group does fades from it.
CAP_FACTOR = 2.0
FREE_EVENTS = 0.25  # events of a seller that count in any case, so that a single slip is not lost
EXPOSURE_CAP = 50.0  # K: trials of a seller in a cell that count at full weight
WINSORISING_ROUNDS = 40


@dataclass(frozen=True)
class WinsorisedRates:
    """Weighted events and trials of each cell (cells,), with every seller's events capped."""

    events: Floats
    trials: Floats

    def cap_events(self, cell: Ints, events: Floats, trials: Floats, free: float) -> Floats:
        """Return how many events (rows,) of one seller in one cell count."""
        rate = self.events[cell] / np.maximum(self.trials[cell], 1e-12)
        return np.asarray(np.minimum(events, np.maximum(free, CAP_FACTOR * rate * trials)))


def winsorise_rates(cell: Ints, events: Floats, trials: Floats, total_trials: Floats, free: float) -> WinsorisedRates:
    """Return the usual rate of each cell, from rows of one seller in one cell each.

    `total_trials` (cells,) are the weighted trials of all sellers, also of those without events. The rates are
    winsorised from above (the one-sided psi function of Huber 1964): a seller's events count up to `free` or up to
    `CAP_FACTOR` times the usual rate, and the usual rate is the fixed point, iterated from the mean. Where a share f of
    the sellers acts at one rate, each round multiplies the rate by at most f * CAP_FACTOR: with a factor of 2 the rate
    stays if f is above one half and falls otherwise.
    """
    weights = exposure_weight(trials)
    rates = WinsorisedRates(sum_by_cell(cell, events * weights, len(total_trials)), total_trials)
    for _ in range(WINSORISING_ROUNDS):
        counted = rates.cap_events(cell, events, trials, free) * weights
        rates = WinsorisedRates(sum_by_cell(cell, counted, len(total_trials)), total_trials)
    return rates


def sum_by_cell(cell: Ints, values: Floats, size: int) -> Floats:
    """Return the sums (size,) of values (rows,) by their cell."""
    return np.bincount(cell, values, size).astype(np.float64)


def exposure_weight(trials: Floats) -> Floats:
    """Return the weight of each of a seller's trials: 1 up to `EXPOSURE_CAP` trials, then inverse to their number."""
    return np.asarray(np.minimum(1.0, EXPOSURE_CAP / np.maximum(trials, 1.0)))


def shrink_rate(events: Floats, trials: Floats, prior_mean: Floats | float, prior_trials: float) -> Floats:
    """Return posterior mean rates under a Beta prior with this mean that is worth `prior_trials` trials."""
    return np.asarray((np.maximum(events, 0) + prior_trials * prior_mean) / (np.maximum(trials, 0) + prior_trials))


@dataclass(frozen=True)
class CellIndex:
    """Rows grouped by an integer code: the sorted unique codes (cells,), and the cell of each row (rows,)."""

    codes: Ints
    cell: Ints

    @classmethod
    def of(cls, codes: Ints) -> Self:
        return cls(*np.unique(codes, return_inverse=True))

    def sum(self, values: Floats) -> Floats:
        """Return the sums (cells,) of values (rows,)."""
        return sum_by_cell(self.cell, values, len(self.codes))

    def look_up(self, values: Floats, codes: Ints) -> Floats:
        """Return the values (cells,) at any codes; 0 for a code without rows."""
        if not len(self.codes):
            return np.zeros(len(codes))
        nearest = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[nearest] == codes, values[nearest], 0.0)


class TransitionRates:
    """Rates at which sellers' products go from one origin to each target category.

    Rows are equal answers of one seller: `seller`, `origin` (one of `origins`), `target` (one of `targets`), their
    number `counts`, and how many of them are events: `events`, at most `counts`, whole or weighted.
    """

    def __init__(
        self, seller: Ints, origin: Ints, target: Ints, counts: Floats, events: Floats, *, origins: int, targets: int,
        free: float = FREE_EVENTS,
    ) -> None:  # fmt: skip
        self.origins, self.targets = origins, targets
        # Trials are counted by seller and origin.
        self.exposures = CellIndex.of(seller * origins + origin)
        self.trials = self.exposures.sum(counts)
        self.weighted_trials = self.trials * exposure_weight(self.trials)
        self.total_trials = sum_by_cell(self.exposures.codes % origins, self.weighted_trials, origins)
        # Events are counted by seller, origin and target, and their usual rates by origin and target.
        happened = events > 0
        self.seller_transitions = CellIndex.of(((seller * origins + origin) * targets + target)[happened])
        self.events = self.seller_transitions.sum(events[happened])
        trials = self.exposures.look_up(self.trials, self.seller_transitions.codes // targets)
        self.transitions = CellIndex.of(self.seller_transitions.codes % (origins * targets))
        cell = self.transitions.cell
        trials_of_origin = self.total_trials[self.transitions.codes // targets]
        self.usual = winsorise_rates(cell, self.events, trials, trials_of_origin, free)
        self.capped_events = self.usual.cap_events(cell, self.events, trials, free)
        self.weighted_events = self.capped_events * exposure_weight(trials)

    def peer_rates(
        self, seller: Ints, origin: Ints, target: Ints, *, prior_mean: Floats | float, prior_trials: float
    ) -> Floats:
        """Return the usual rate of each transition (rows,) without the seller's own answers, shrunk to a prior."""
        exposure = seller * self.origins + origin
        events = self.transitions.look_up(self.usual.events, origin * self.targets + target)
        own_events = self.seller_transitions.look_up(self.weighted_events, exposure * self.targets + target)
        own_trials = self.exposures.look_up(self.weighted_trials, exposure)
        return shrink_rate(events - own_events, self.total_trials[origin] - own_trials, prior_mean, prior_trials)

    def counted_share(self, seller: Ints, origin: Ints, target: Ints) -> Floats:
        """Return which share (rows,) of the seller's events in each transition is left after capping."""
        code = (seller * self.origins + origin) * self.targets + target
        return self.seller_transitions.look_up(self.capped_events / np.maximum(self.events, 1e-12), code)

    def mean_rate(self) -> float:
        """Return the capped events for each trial, over all transitions."""
        return float(self.capped_events.sum() / max(self.trials.sum(), 1.0))
