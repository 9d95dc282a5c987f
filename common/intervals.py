"""Compute the interval of a proportion that pages and charts show."""

import math
from statistics import NormalDist

CONFIDENCE_LEVEL = 0.95
NORMAL_QUANTILE = NormalDist().inv_cdf((1 + CONFIDENCE_LEVEL) / 2)


def wilson_interval(successes: float, total: float) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927, equation 4).

    Both counts may be fractions, such as an effective number of rows. Raises ValueError for counts that form no
    proportion.
    """
    if not 0 <= successes <= total or total <= 0:
        raise ValueError(f"{successes} of {total} is no proportion")
    z = NORMAL_QUANTILE
    proportion = successes / total
    centre = (proportion + z * z / (2 * total)) / (1 + z * z / total)
    spread = math.sqrt(proportion * (1 - proportion) / total + z * z / (4 * total * total))
    half_width = z / (1 + z * z / total) * spread
    # At 0 and at 1 rounding could leave the proportion itself outside its interval.
    low = max(min(centre - half_width, proportion), 0.0)
    high = min(max(centre + half_width, proportion), 1.0)
    return low, high
