"""Measure how far two distributions over categories differ."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Values = npt.NDArray[np.float64]

BITS = 2.0


def jensen_shannon_distance(first: Array, second: Array, base: float | None = None) -> Values:
    """Return the Jensen-Shannon distance of distributions over the last axis: the root of the divergence.

    `first` and `second` (..., categories) sum to 1; the result has the shape (...), NaN where either has a NaN. The
    logarithm is the natural one unless a `base` is given.
    """
    from scipy.spatial import distance

    p, q = np.asarray(first, np.float64), np.asarray(second, np.float64)
    with np.errstate(invalid="ignore"):
        found = np.asarray(distance.jensenshannon(p, q, base=base, axis=-1))
    # The divergence of two nearly equal distributions may be rounded to less than 0, whose root SciPy gives as NaN.
    is_known = np.isfinite(p).all(axis=-1) & np.isfinite(q).all(axis=-1)
    return np.where(np.isnan(found) & is_known, 0.0, found)


def jensen_shannon_divergence(first: Array, second: Array) -> Values:
    """Return the Jensen-Shannon divergence (n,) of distributions (n, categories), in bits from 0 to 1."""
    return jensen_shannon_distance(first, second, base=BITS) ** 2
