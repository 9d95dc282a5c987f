"""Whether a window of predictions is still like the reference, column by column, and which rows moved most."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import stats

from feedback.statistics.drift.codes import ColumnState, Measure
from feedback.statistics.drift.summaries import DriftSummary, Histogram, RowSample

Correction = Literal["holm", "benjamini-hochberg", "none"]
Values = npt.NDArray[np.float64]

STABLE, DRIFTED, NOT_ENOUGH_DATA = ColumnState.STABLE, ColumnState.DRIFTED, ColumnState.NOT_ENOUGH_DATA

MINIMUM_EXPECTED_COUNT = 5.0  # of a cell of a chi-square test (Cochran 1954)
EMPTY_SHARE = 1e-4  # what the population stability index takes for a share of nothing, as Evidently does
RIDGE = 1e-2


@dataclass(frozen=True)
class DriftThresholds:
    """When a column has drifted.

    Of a column with fewer than `small` values in the window, when its p-value is at most `alpha` after the
    `correction` for all columns that are tested; of one with more, when its distance reaches a threshold: there any
    difference is significant, and the question is whether it is large. The distances' thresholds are Evidently's
    defaults: 0.1 for the Wasserstein distance over the reference's standard deviation and for the Jensen-Shannon
    distance (natural logarithm), 0.55 for the area under the curve of a domain classifier. Over more than `many`
    categories the noise alone makes a Jensen-Shannon distance, and the largest difference of a share counts. Vectors
    are known by a sample, so of a large window both the classifier's area and its p-value must say so.
    """

    small: int = 1_000
    least: int = 30
    alpha: float = 0.005
    correction: Correction = "holm"
    wasserstein: float = 0.1
    jensen_shannon: float = 0.1
    l_infinity: float = 0.05
    many: int = 50
    auc: float = 0.55
    named: int = 20

    def __post_init__(self) -> None:
        if self.correction not in get_args(Correction):
            raise ValueError(f"{self.correction!r} is no correction")
        for name in ("alpha", "wasserstein", "jensen_shannon", "l_infinity", "auc"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if self.small < 0 or self.least < 2 or self.named < 0:
            raise ValueError("small and named must not be negative, and least must be at least 2")


@dataclass(frozen=True)
class ColumnResult:
    """What is known of one column.

    `measure` names `value`. Where there is a `p`, after the correction, it must reach alpha; where there is a
    `threshold`, the value must reach that. `also` holds what is told beside it. `rows` are ids of the window, those
    that moved most first; none unless it drifted. In the state NOT_ENOUGH_DATA all of them are None.
    """

    column: str
    state: ColumnState
    reference: int
    window: int
    measure: str = ""
    value: float | None = None
    threshold: float | None = None
    p: float | None = None
    also: Mapping[str, float] = field(default_factory=dict)
    rows: Sequence[str] = ()


def compare_summaries(
    reference: DriftSummary, window: DriftSummary, thresholds: DriftThresholds | None = None
) -> list[ColumnResult]:
    """Return a finding for each column of the window, in the order of numbers, categories, vectors.

    A column that the reference doesn't have, and one with fewer than `least` values in either, has not enough data.
    Raises ValueError when both bin a number differently.
    """
    limits = thresholds or DriftThresholds()
    findings = [*_numbers(reference, window, limits), *_categories(reference, window, limits)]
    findings += _vectors(reference, window, limits)
    return _decided(findings, window, reference, limits)


def drifted_columns(findings: Sequence[ColumnResult]) -> list[ColumnResult]:
    return [finding for finding in findings if finding.state == DRIFTED]


def correct_p_values(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Return p-values to be held against alpha itself: by Holm (1979), or by Benjamini and Hochberg (1995)."""
    p, count = np.asarray(p_values, np.float64), len(p_values)
    if correction == "none" or not count:
        return [float(value) for value in p]
    order = np.argsort(p)
    ranks = np.arange(count)
    if correction == "holm":
        ordered = np.maximum.accumulate(p[order] * (count - ranks))
    else:
        ordered = np.minimum.accumulate((p[order] * count / (ranks + 1))[::-1])[::-1]
    result = np.empty(count)
    result[order] = np.minimum(ordered, 1.0)
    return [float(value) for value in result]


# What is measured ------------------------------------------------------------------------------------------------


def kolmogorov_smirnov_test(reference: Histogram, window: Histogram) -> tuple[float, float]:
    """Return the two-sample statistic over the bins' edges and its p-value.

    Between the edges the distribution functions may differ more, so the p-value is never too small; with an edge at
    each value it is scipy.stats.ks_2samp's with method="asymp".
    """
    gaps = _gaps(reference, window)
    n, m = reference.total, window.total
    statistic = float(np.abs(gaps).max(initial=0.0))
    return statistic, float(np.clip(stats.kstwo.sf(statistic, max(round(n * m / (n + m)), 1)), 0.0, 1.0))


def normed_wasserstein(reference: Histogram, window: Histogram) -> float:
    """Return the first Wasserstein distance over the reference's standard deviation, each bin taken as its mean.

    Of a constant reference, 0 if the window is the same constant, else infinite.
    """
    distance = float(
        stats.wasserstein_distance(reference.means, window.means, reference.counts, window.counts)
    )  # fmt: skip
    scale = max(abs(float(reference.means.max())), 1.0)
    if reference.deviation > 1e-7 * scale:
        return distance / reference.deviation
    return 0.0 if distance <= 1e-7 * scale else math.inf


def category_shares(reference: Counter[str], window: Counter[str]) -> tuple[list[str], Values, Values]:
    """Return all names of either, and each one's share in the reference and in the window. Neither may be empty."""
    names = sorted(reference.keys() | window.keys())
    counts = (np.array([counter[name] for name in names], np.float64) for counter in (reference, window))
    p, q = (count / count.sum() for count in counts)
    return names, p, q


def jensen_shannon_distance(p: Values, q: Values) -> float:
    """Return the Jensen-Shannon distance of two distributions: the root of the divergence, natural logarithm."""
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(x > 0, x * np.log(x / middle), 0.0).sum() for x in (p, q)]
    return math.sqrt(max(sum(parts) / 2, 0.0))


def population_stability_index(p: Values, q: Values) -> float:
    """Return the population stability index: the sum of (q - p) ln(q / p), a share of nothing taken as 0.0001."""
    p, q = np.maximum(p, EMPTY_SHARE), np.maximum(q, EMPTY_SHARE)
    return float(np.sum((q - p) * np.log(q / p)))


def chi_square_test(reference: Counter[str], window: Counter[str]) -> tuple[float, float]:
    """Return Pearson's statistic and p-value that both come from one distribution; 0 and 1 if one category is left.

    Categories are pooled, the rarest first, until each cell expects five (Cochran 1954).
    """
    names = sorted(reference.keys() | window.keys(), key=lambda name: (reference[name] + window[name], name))
    total = sum(reference.values()) + sum(window.values())
    least = MINIMUM_EXPECTED_COUNT * total / max(min(sum(reference.values()), sum(window.values())), 1)
    cells: list[list[int]] = []
    pooled = [0, 0]
    for name in names:
        pair = [reference[name], window[name]]
        if sum(pair) >= least:
            cells.append(pair)
        else:
            pooled = [pooled[0] + pair[0], pooled[1] + pair[1]]
            if sum(pooled) >= least:
                cells.append(pooled)
                pooled = [0, 0]
    if sum(pooled):
        if cells:
            cells[0] = [cells[0][0] + pooled[0], cells[0][1] + pooled[1]]
        else:
            cells = [pooled]
    if len(cells) < 2:
        return 0.0, 1.0
    result = stats.chi2_contingency(np.array(cells).T, correction=False)
    return float(result.statistic), float(result.pvalue)


def domain_classifier_test(
    reference: npt.NDArray[np.floating[Any]], window: npt.NDArray[np.floating[Any]], *, seed: int = 18
) -> tuple[float, float, Values]:
    """Ask whether a classifier can tell the window's rows (m, dim) from the reference's (n, dim).

    Two linear discriminants, each fitted to one half and asked about the other (Lopez-Paz and Oquab 2017, "Revisiting
    classifier two-sample tests"). Returns the mean area under the curve, a one-sided p-value, and each window row's
    score, higher the less it is like the reference. The p-value is that of the mean of both halves' Mann-Whitney
    deviates (normal approximation): they say nearly the same, so nothing is gained by counting them as two.
    """
    x, y = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    rng = np.random.default_rng(seed)
    halves = [(rng.permutation(len(part)) < len(part) // 2) for part in (x, y)]
    scores = np.empty(len(y))
    areas, deviates = [], []
    for fitted in (True, False):
        mine, others = halves[0] == fitted, halves[1] == fitted
        direction = _discriminant(x[mine], y[others])
        known, asked = x[~mine] @ direction, y[~others] @ direction
        area, deviate = _mann_whitney(known, asked)
        areas.append(area)
        deviates.append(deviate)
        spread = known.std() or 1.0
        scores[~others] = (asked - known.mean()) / spread
    return float(np.mean(areas)), float(stats.norm.sf(np.mean(deviates))), scores


def _discriminant(x: Values, y: Values) -> Values:
    """Return Fisher's direction from x to y, with a ridge: there may be fewer rows than dimensions."""
    centred = np.concatenate([x - x.mean(axis=0), y - y.mean(axis=0)])
    scatter = centred.T @ centred / max(len(centred) - 2, 1)
    ridge = RIDGE * max(float(np.trace(scatter)) / len(scatter), 1e-12)
    return np.linalg.solve(scatter + ridge * np.eye(len(scatter)), y.mean(axis=0) - x.mean(axis=0))


def _mann_whitney(x: Values, y: Values) -> tuple[float, float]:
    """Return the chance that a y is greater than an x, and the standard normal deviate of that, ties corrected."""
    n, m = len(x), len(y)
    both = np.concatenate([x, y])
    area = (stats.rankdata(both)[n:].sum() - m * (m + 1) / 2) / (n * m)
    ties = np.unique(both, return_counts=True)[1].astype(np.float64)
    total = n + m
    variance = (total + 1 - float(np.sum(ties**3 - ties)) / (total * (total - 1))) / (12 * n * m)
    return float(area), (float(area) - 0.5) / math.sqrt(variance) if variance > 0 else 0.0


def _gaps(reference: Histogram, window: Histogram) -> Values:
    """Return how much more of the window than of the reference lies up to each edge."""
    functions = [np.cumsum(histogram.counts[:-1]) / histogram.total for histogram in (window, reference)]
    return np.asarray(functions[0] - functions[1])


# Column by column ------------------------------------------------------------------------------------------------


def _numbers(reference: DriftSummary, window: DriftSummary, limits: DriftThresholds) -> Iterator[ColumnResult]:
    for name, seen in window.numbers.items():
        known = reference.numbers.get(name)
        if known is not None and reference.layout.edges[name] != window.layout.edges[name]:
            raise ValueError(f"{name}: reference and window have other bins")
        finding = ColumnResult(name, STABLE, known.total if known else 0, seen.total)
        if known is None or _too_few(finding, limits):
            yield replace(finding, state=NOT_ENOUGH_DATA)
            continue
        distance = normed_wasserstein(known, seen)
        if seen.total < limits.small:
            statistic, p = kolmogorov_smirnov_test(known, seen)
            yield replace(
                finding,
                measure=Measure.KOLMOGOROV_SMIRNOV,
                value=statistic,
                p=p,
                also={Measure.WASSERSTEIN.value: distance},
            )
        else:
            yield replace(finding, measure=Measure.WASSERSTEIN, value=distance, threshold=limits.wasserstein)


def _categories(reference: DriftSummary, window: DriftSummary, limits: DriftThresholds) -> Iterator[ColumnResult]:
    for name, seen in window.categories.items():
        known = reference.categories.get(name, Counter())
        finding = ColumnResult(name, STABLE, known.total(), seen.total())
        if _too_few(finding, limits):
            yield replace(finding, state=NOT_ENOUGH_DATA)
            continue
        names, p, q = category_shares(known, seen)
        figures: dict[str, float] = {
            Measure.JENSEN_SHANNON: jensen_shannon_distance(p, q),
            Measure.L_INFINITY: float(np.abs(p - q).max()),
            Measure.STABILITY_INDEX: population_stability_index(p, q),
        }
        if finding.window < limits.small:
            statistic, tested = chi_square_test(known, seen)
            yield replace(finding, measure=Measure.CHI_SQUARE, value=statistic, p=tested, also=figures)
            continue
        measure, threshold = Measure.JENSEN_SHANNON, limits.jensen_shannon
        if len(names) > limits.many:
            measure, threshold = Measure.L_INFINITY, limits.l_infinity
        yield replace(finding, measure=measure, value=figures.pop(measure), threshold=threshold, also=figures)


def _vectors(reference: DriftSummary, window: DriftSummary, limits: DriftThresholds) -> Iterator[ColumnResult]:
    """Vectors are compared by the samples: there the number of rows that counts is the sample's."""
    for name in window.sample.vectors:
        rows, seen = _known(window.sample, name)
        known = _known(reference.sample, name)[1] if name in reference.sample.vectors else seen[:0]
        finding = ColumnResult(name, STABLE, len(known), len(seen), measure=Measure.DOMAIN_CLASSIFIER)
        if _too_few(finding, limits):
            yield replace(finding, state=NOT_ENOUGH_DATA, measure="")
            continue
        area, p, scores = domain_classifier_test(known, seen)
        ids = [window.sample.ids[rows[place]] for place in np.argsort(-scores)[: limits.named]]
        # However large the window, its sample is not: chance must be ruled out before the area counts.
        threshold = limits.auc if window.rows >= limits.small else None
        yield replace(finding, value=area, threshold=threshold, p=p, rows=ids)


def _too_few(finding: ColumnResult, limits: DriftThresholds) -> bool:
    return min(finding.reference, finding.window) < limits.least


def _known(sample: RowSample, name: str) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    vectors = sample.vectors[name].astype(np.float64)
    rows = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    return rows, vectors[rows]


def _decided(
    findings: Sequence[ColumnResult], window: DriftSummary, reference: DriftSummary, limits: DriftThresholds
) -> list[ColumnResult]:
    """Return the findings with corrected p-values, their states, and the rows of those that drifted."""
    tested = [place for place, finding in enumerate(findings) if finding.p is not None]
    raw = [finding.p for finding in findings if finding.p is not None]
    corrected = dict(zip(tested, correct_p_values(raw, limits.correction), strict=True))
    decided = []
    for place, finding in enumerate(findings):
        found, moved = finding, finding.state != NOT_ENOUGH_DATA
        if place in corrected:
            found = replace(found, p=corrected[place])
            moved = moved and corrected[place] <= limits.alpha
        if finding.value is not None and finding.threshold is not None:
            moved = moved and finding.value >= finding.threshold
        if finding.state != NOT_ENOUGH_DATA:
            found = replace(found, state=DRIFTED if moved else STABLE)
        rows = (finding.rows or _moved(finding.column, reference, window, limits.named)) if moved else ()
        decided.append(replace(found, rows=rows))
    return decided


def _moved(column: str, reference: DriftSummary, window: DriftSummary, count: int) -> list[str]:
    """Return the ids of the window's sample that moved most.

    Of a number, those on the side of the widest gap between both distribution functions, the outermost first; of a
    category, those of the category that gained the largest share, then of the next one.
    """
    sample = window.sample
    if column in window.numbers:
        gaps = _gaps(reference.numbers[column], window.numbers[column])
        values = sample.numbers[column]
        if not len(gaps):
            return []
        widest = int(np.abs(gaps).argmax())
        edge, low = window.layout.edges[column][widest], gaps[widest] > 0
        order = np.argsort(values if low else -values)  # NaN comes last
        return [sample.ids[r] for r in order if (values[r] <= edge if low else values[r] > edge)][:count]
    names, p, q = category_shares(reference.categories[column], window.categories[column])
    gain = dict(zip(names, q - p, strict=True))
    cells = sample.categories[column]
    # A label of the sample may be newer than the counts.
    gaining = [row for row, name in enumerate(cells) if name is not None and gain.get(name, 0.0) > 0]
    return [sample.ids[row] for row in sorted(gaining, key=lambda row: -gain[cells[row] or ""])][:count]
