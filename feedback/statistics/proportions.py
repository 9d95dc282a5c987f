"""Compare two observed proportions: an interval for each, and the probability that one is greater."""

from dataclasses import dataclass

import numpy as np

from common.intervals import wilson_interval
from feedback.statistics.intervals import MINIMUM_ROWS

JEFFREYS_PRIOR = 0.5  # both parameters of the Beta prior
QUADRATURE_POINTS = 2_000


@dataclass(frozen=True)
class Proportion:
    """A count out of a total."""

    count: int
    total: int

    @property
    def is_enough(self) -> bool:
        return self.total >= MINIMUM_ROWS

    @property
    def value(self) -> float:
        return self.count / self.total

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval (Wilson's, as everywhere on pages)."""
        return wilson_interval(self.count, self.total)

    def probability_greater_than(self, other: "Proportion") -> float | None:
        """Return the posterior probability that this proportion is the greater one; None with too few rows.

        The posteriors are Beta distributions under Jeffreys' prior. The integral over this posterior of the other's
        distribution function is taken at the midpoints of equally likely slices; Miller 2010, "Formulas for Bayesian
        A/B testing", gives the same probability as a sum.
        """
        from scipy.special import betainc, betaincinv

        if not (self.is_enough and other.is_enough):
            return None
        slices = (np.arange(QUADRATURE_POINTS) + 0.5) / QUADRATURE_POINTS
        quantiles = betaincinv(*self._posterior(), slices)
        return float(np.mean(betainc(*other._posterior(), quantiles)))

    def _posterior(self) -> tuple[float, float]:
        """Return both parameters of the Beta posterior."""
        return JEFFREYS_PRIOR + self.count, JEFFREYS_PRIOR + self.total - self.count
