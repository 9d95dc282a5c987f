"""How sure one may be of a share, and that one version's is higher than another's: pure functions over counts."""

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, betaincinv

MINIMUM_ANSWERS = 30  # answers: with fewer, a share says more about luck than about a version
JEFFREYS_PRIOR = 0.5  # Jeffreys' prior, whose intervals cover as they say at small n too (Brown, Cai and DasGupta 2001)
CREDIBLE = 0.95
QUADRATURE_POINTS = 2_000


@dataclass(frozen=True)
class Proportion:
    """So many of so many."""

    count: int
    total: int

    @property
    def is_enough(self) -> bool:
        return self.total >= MINIMUM_ANSWERS

    @property
    def value(self) -> float:
        return self.count / self.total

    def interval(self) -> tuple[float, float]:
        """Return the equal-tailed credible interval of the share behind the counts."""
        tail = (1 - CREDIBLE) / 2
        low, high = betaincinv(*self._posterior(), [tail, 1 - tail])
        # At none and at all of them the interval would leave out the share that was seen.
        return (0.0 if self.count == 0 else float(low)), (1.0 if self.count == self.total else float(high))

    def chance_to_beat(self, other: "Proportion") -> float | None:
        """Return the probability that this share is the higher one in the long run; None without enough answers.

        The integral over this posterior of the other's distribution function, by the midpoints of equally likely
        slices: as the sum by which Miller (2010, "Formulas for Bayesian A/B testing") gives it, at any counts.
        """
        if not (self.is_enough and other.is_enough):
            return None
        slices = (np.arange(QUADRATURE_POINTS) + 0.5) / QUADRATURE_POINTS
        return float(np.mean(betainc(*other._posterior(), betaincinv(*self._posterior(), slices))))

    def _posterior(self) -> tuple[float, float]:
        """Return both parameters of the Beta distribution of the share behind the counts."""
        return JEFFREYS_PRIOR + self.count, JEFFREYS_PRIOR + self.total - self.count
