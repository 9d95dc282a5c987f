"""What most sellers do in the same place: the yardstick that one seller's answers are held against."""

from dataclasses import dataclass

import numpy as np

from feedback.statistics.fraud.answer_log import Floats, Ints

# Nobody counts for more than twice the usual rate: what over half of the sellers do becomes the usual rate, and what a
# smaller group does fades from it, however blatant.
CAP_FACTOR = 2.0
FREE_EVENTS = 0.25  # events of a seller that count anyway: a lone slip isn't lost, and a group's slips hardly add up
EXPOSURE_CAP = 50.0  # chances: a seller with more of them has no louder voice
WINSORISING_ROUNDS = 40


@dataclass(frozen=True)
class WinsorisedRates:
    """Events and chances of each cell (cells,), by voice, as most sellers have them."""

    events: Floats
    chances: Floats

    def capped(self, cell: Ints, events: Floats, chances: Floats, unit: float) -> Floats:
        """Return how many of one seller's events in each cell count."""
        rate = self.events[cell] / np.maximum(self.chances[cell], 1e-12)
        return np.asarray(np.minimum(events, np.maximum(unit, CAP_FACTOR * rate * chances)))


def winsorise_rates(cell: Ints, events: Floats, chances: Floats, total: Floats, unit: float) -> WinsorisedRates:
    """Return what is usual in each cell, from rows of one seller in one cell each.

    `total` (cells,): the chances of all sellers by voice, also of those without events. Winsorised from above (the
    one-sided psi of Huber 1964): a seller's events count up to `unit` or `CAP_FACTOR` times the usual rate,
    and the usual rate is what that gives, iterated from the mean. Where a share f of the sellers has one rate,
    each round multiplies the rate by f * CAP_FACTOR at most: it stays if f is above one half, and falls otherwise.
    """
    loud = exposure_weight(chances)
    found = WinsorisedRates(sum_by_cell(cell, events * loud, len(total)), total)
    for _ in range(WINSORISING_ROUNDS):
        counted = found.capped(cell, events, chances, unit) * loud
        found = WinsorisedRates(sum_by_cell(cell, counted, len(total)), total)
    return found


def sum_by_cell(cell: Ints, values: Floats, size: int) -> Floats:
    """Return the sums of values (rows,) by their cell, (size,)."""
    return np.bincount(cell, values, size).astype(np.float64)


def exposure_weight(chances: Floats) -> Floats:
    """Return what a chance of a seller with so many weighs."""
    return np.asarray(np.minimum(1.0, EXPOSURE_CAP / np.maximum(chances, 1.0)))


def shrink_rate(events: Floats, chances: Floats, wider: Floats | float, pseudo: float) -> Floats:
    """Return rates shrunk towards a wider cell's: the posterior mean under a Beta prior worth `pseudo` chances."""
    return np.asarray((np.maximum(events, 0) + pseudo * wider) / (np.maximum(chances, 0) + pseudo))


@dataclass(frozen=True)
class CellIndex:
    """Rows by a whole-number code: the codes in order (cells,), and each row's cell (rows,)."""

    codes: Ints
    place: Ints

    @classmethod
    def of(cls, codes: Ints) -> "CellIndex":
        return cls(*np.unique(codes, return_inverse=True))

    def sum(self, values: Floats) -> Floats:
        return sum_by_cell(self.place, values, len(self.codes))

    def look_up(self, values: Floats, codes: Ints) -> Floats:
        """Return the values (cells,) of any codes, 0 for one that has no rows."""
        if not len(self.codes):
            return np.zeros(len(codes))
        near = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[near] == codes, values[near], 0.0)


class TransitionRates:
    """From where to which category sellers' answers go, and how usual each way is.

    Rows are a seller's answers in common: `seller`, `origin` (of `origins`), `target` (of `targets`), how many
    (`counts`) and how many of these are events (`events`, at most as many; whole or weighted).
    """

    def __init__(
        self, seller: Ints, origin: Ints, target: Ints, counts: Floats, events: Floats, *, origins: int, targets: int,
        unit: float = FREE_EVENTS,
    ) -> None:  # fmt: skip
        self.origins, self.targets = origins, targets
        self.places = CellIndex.of(seller * origins + origin)
        self.at = self.places.sum(counts)
        self.total = sum_by_cell(self.places.codes % origins, self.at * exposure_weight(self.at), origins)
        happened = events > 0
        self.moves = CellIndex.of(((seller * origins + origin) * targets + target)[happened])
        self.moved = self.moves.sum(events[happened])
        chances = self.places.look_up(self.at, self.moves.codes // targets)
        self.ways = CellIndex.of(self.moves.codes % (origins * targets))
        way = self.ways.place
        self.usual = winsorise_rates(way, self.moved, chances, self.total[self.ways.codes // targets], unit)
        self.counted = self.usual.capped(way, self.moved, chances, unit)
        self.heard = self.counted * exposure_weight(chances)

    def peers(self, seller: Ints, origin: Ints, target: Ints, *, wider: Floats | float, pseudo: float) -> Floats:
        """Return the usual rate of each way without the seller's own answers, shrunk towards `wider`."""
        place = seller * self.origins + origin
        events = self.ways.look_up(self.usual.events, origin * self.targets + target)
        own = self.moves.look_up(self.heard, place * self.targets + target)
        chances = self.total[origin] - self.places.look_up(self.at * exposure_weight(self.at), place)
        return shrink_rate(events - own, chances, wider, pseudo)

    def discount(self, seller: Ints, origin: Ints, target: Ints) -> Floats:
        """Return which share of the seller's events on each way counts."""
        move = (seller * self.origins + origin) * self.targets + target
        return self.moves.look_up(self.counted / np.maximum(self.moved, 1e-12), move)

    def mean(self) -> float:
        """Return the events that count, a chance."""
        return float(self.counted.sum() / max(self.at.sum(), 1.0))
