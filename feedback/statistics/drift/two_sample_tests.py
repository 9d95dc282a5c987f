"""Test and measure how far two samples of one column differ: numbers by histogram, categories, and vectors."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from feedback.statistics.drift.summaries import Histogram

Correction = Literal["holm", "benjamini-hochberg", "none"]
Values = npt.NDArray[np.float64]

MINIMUM_EXPECTED_COUNT = 5.0  # of a cell of a chi-square test (Cochran 1954)
EMPTY_SHARE = 1e-4  # the share that the population stability index assumes for an empty category, as Evidently does
RIDGE = 1e-2
NEGLIGIBLE = 1e-7  # relative: differences of float32 values that are equal otherwise


def correct_p_values(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Return p-values corrected for multiple tests: by Holm (1979), or by Benjamini and Hochberg (1995)."""
    from scipy import stats

    p_array = np.asarray(p_values, np.float64)
    if correction == "none" or not len(p_array):
        return [float(p) for p in p_array]
    if correction == "benjamini-hochberg":
        return [float(p) for p in stats.false_discovery_control(p_array, method="bh")]
    return [float(p) for p in _correct_by_holm(p_array)]


def _correct_by_holm(p_array: Values) -> Values:
    order = np.argsort(p_array)
    remaining_tests = len(p_array) - np.arange(len(p_array))
    corrected = np.empty(len(p_array))
    corrected[order] = np.minimum(np.maximum.accumulate(p_array[order] * remaining_tests), 1.0)
    return corrected


def kolmogorov_smirnov_test(reference: Histogram, window: Histogram) -> tuple[float, float]:
    """Return the two-sample statistic at the bins' edges, and its p-value.

    Between the edges the distribution functions may differ more, so the p-value is never too small. With an edge at
    each value it is that of scipy.stats.ks_2samp with method="asymp".
    """
    from scipy import stats

    gaps = distribution_gaps(reference, window)
    n, m = reference.total, window.total
    statistic = float(np.abs(gaps).max(initial=0.0))
    effective_rows = max(round(n * m / (n + m)), 1)
    return statistic, float(np.clip(stats.kstwo.sf(statistic, effective_rows), 0.0, 1.0))


def distribution_gaps(reference: Histogram, window: Histogram) -> Values:
    """Return, at each edge, the window's distribution function minus the reference's."""
    window_function = np.cumsum(window.counts[:-1]) / window.total
    reference_function = np.cumsum(reference.counts[:-1]) / reference.total
    return np.asarray(window_function - reference_function)


def normed_wasserstein(reference: Histogram, window: Histogram) -> float:
    """Return the first Wasserstein distance over the reference's standard deviation, each bin taken at its mean.

    With a constant reference: 0 if the window is the same constant, else infinite.
    """
    from scipy import stats

    distance = float(stats.wasserstein_distance(reference.means, window.means, reference.counts, window.counts))
    scale = max(abs(float(reference.means.max())), 1.0)
    if reference.deviation > NEGLIGIBLE * scale:
        return distance / reference.deviation
    return 0.0 if distance <= NEGLIGIBLE * scale else math.inf


def category_shares(reference: Counter[str], window: Counter[str]) -> tuple[list[str], Values, Values]:
    """Return the categories of either sample, and their shares in reference and window; neither may be empty."""
    names = sorted(reference.keys() | window.keys())
    reference_counts = np.array([reference[name] for name in names], np.float64)
    window_counts = np.array([window[name] for name in names], np.float64)
    return names, reference_counts / reference_counts.sum(), window_counts / window_counts.sum()


def population_stability_index(reference: Values, window: Values) -> float:
    """Return the population stability index of two distributions: the sum of (q - p) ln(q / p)."""
    p, q = np.maximum(reference, EMPTY_SHARE), np.maximum(window, EMPTY_SHARE)
    return float(np.sum((q - p) * np.log(q / p)))


def chi_square_test(reference: Counter[str], window: Counter[str]) -> tuple[float, float]:
    """Return Pearson's statistic and p-value; 0 and 1 if fewer than two cells are left.

    Rare categories are pooled until each cell expects `MINIMUM_EXPECTED_COUNT` rows in either sample (Cochran 1954).
    """
    from scipy import stats

    cells = _pool_rare_categories(reference, window)
    if len(cells) < 2:
        return 0.0, 1.0
    result = stats.chi2_contingency(np.array(cells).T, correction=False)
    return float(result.statistic), float(result.pvalue)


def _pool_rare_categories(reference: Counter[str], window: Counter[str]) -> list[tuple[int, int]]:
    """Return cells of (rows of the reference, rows of the window), with the rarest categories joined."""
    names = sorted(reference.keys() | window.keys(), key=lambda name: (reference[name] + window[name], name))
    smaller = max(min(reference.total(), window.total()), 1)
    minimum_rows = MINIMUM_EXPECTED_COUNT * (reference.total() + window.total()) / smaller
    cells: list[tuple[int, int]] = []
    pooled = (0, 0)
    for name in names:
        cell = (reference[name], window[name])
        if sum(cell) >= minimum_rows:
            cells.append(cell)
            continue
        pooled = (pooled[0] + cell[0], pooled[1] + cell[1])
        if sum(pooled) >= minimum_rows:
            cells.append(pooled)
            pooled = (0, 0)
    if not sum(pooled):
        return cells
    if not cells:
        return [pooled]
    # What is left is too small for a cell of its own, and joins the smallest one.
    return [(cells[0][0] + pooled[0], cells[0][1] + pooled[1]), *cells[1:]]


def domain_classifier_test(
    reference: npt.NDArray[np.floating[Any]], window: npt.NDArray[np.floating[Any]], *, seed: int = 18
) -> tuple[float, float, Values]:
    """Test whether a classifier can tell the window's rows (m, dim) from the reference's (n, dim).

    Two linear discriminants are each fitted to one half of the rows and applied to the other (Lopez-Paz and Oquab 2017,
    "Revisiting classifier two-sample tests"). Return the mean area under the curve, a one-sided p-value, and a score
    (m,) of each window row, higher the less it resembles the reference. The p-value is that of the mean of both halves'
    Mann-Whitney deviates (normal approximation): the halves are hardly independent, so they are not counted as two.
    """
    from scipy import stats

    x, y = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    rng = np.random.default_rng(seed)
    reference_half = rng.permutation(len(x)) < len(x) // 2
    window_half = rng.permutation(len(y)) < len(y) // 2
    scores = np.empty(len(y))
    areas, deviates = [], []
    for fitted in (True, False):
        in_fit, in_window_fit = reference_half == fitted, window_half == fitted
        direction = _fit_discriminant(x[in_fit], y[in_window_fit])
        known, tested = x[~in_fit] @ direction, y[~in_window_fit] @ direction
        area, deviate = _mann_whitney(known, tested)
        areas.append(area)
        deviates.append(deviate)
        scores[~in_window_fit] = (tested - known.mean()) / (known.std() or 1.0)
    return float(np.mean(areas)), float(stats.norm.sf(np.mean(deviates))), scores


def _fit_discriminant(x: Values, y: Values) -> Values:
    """Return Fisher's direction from x to y, with a ridge because there may be fewer rows than dimensions."""
    centred = np.concatenate([x - x.mean(axis=0), y - y.mean(axis=0)])
    scatter = centred.T @ centred / max(len(centred) - 2, 1)
    ridge = RIDGE * max(float(np.trace(scatter)) / len(scatter), 1e-12)
    return np.linalg.solve(scatter + ridge * np.eye(len(scatter)), y.mean(axis=0) - x.mean(axis=0))


def _mann_whitney(x: Values, y: Values) -> tuple[float, float]:
    """Return the probability that a y exceeds an x, and its standard normal deviate with a correction for ties."""
    from scipy import stats

    n, m = len(x), len(y)
    total = n + m
    both = np.concatenate([x, y])
    area = (stats.rankdata(both)[n:].sum() - m * (m + 1) / 2) / (n * m)
    tie_sizes = np.unique(both, return_counts=True)[1].astype(np.float64)
    tie_correction = float(np.sum(tie_sizes**3 - tie_sizes)) / (total * (total - 1))
    variance = (total + 1 - tie_correction) / (12 * n * m)
    if variance <= 0:
        return float(area), 0.0
    return float(area), (float(area) - 0.5) / math.sqrt(variance)
