"""Draw calibrated forecasts whose true categories are known."""

import numpy as np

from feedback.statistics.intervals import Estimate, WeightedSums, estimate_weighted_proportion


def draw_forecasts(
    count: int, seed: int = 0, classes: int = 5, sharpness: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated probabilities (n, classes) and true categories drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sharpness, (count, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, (probabilities.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)


def weighted_estimate(right: np.ndarray, chance: np.ndarray) -> Estimate | None:
    """Return the share of rows (n,) that are right, each reviewed with its inclusion probability."""
    weights = 1 / chance
    correct = weights[right]
    sums = WeightedSums(len(right), weights.sum(), (weights**2).sum(), correct.sum(), (correct**2).sum())
    return estimate_weighted_proportion(sums)
