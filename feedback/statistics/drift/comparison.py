"""Compare a window of predictions with a reference, column by column, and name the rows that moved most."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
import numpy.typing as npt

from feedback.statistics.divergence import jensen_shannon_distance
from feedback.statistics.drift.codes import ColumnState, Measure
from feedback.statistics.drift.summaries import DriftSummary, RowSample
from feedback.statistics.drift.two_sample_tests import (
    Correction,
    category_shares,
    chi_square_test,
    correct_p_values,
    distribution_gaps,
    domain_classifier_test,
    kolmogorov_smirnov_test,
    normed_wasserstein,
    population_stability_index,
)

STABLE, DRIFTED, NOT_ENOUGH_DATA = ColumnState.STABLE, ColumnState.DRIFTED, ColumnState.NOT_ENOUGH_DATA


@dataclass(frozen=True)
class DriftThresholds:
    """When a column counts as drifted.

    With fewer than `small` values in the window, its p-value must be at most `alpha` after the `correction` for all
    tested columns. With more, every difference is significant, and its distance must reach a threshold. The distances'
    thresholds are Evidently's defaults: 0.1 for the Wasserstein distance over the reference's standard deviation and
    for the Jensen-Shannon distance (natural logarithm), 0.55 for the area under the curve of a domain classifier. Over
    more than `many` categories noise alone makes a Jensen-Shannon distance, and the largest difference of a share is
    used. Vectors are compared by samples, so in a large window both the classifier's area and its p-value must exceed
    their thresholds. Fewer than `least` values on either side are not enough; `named` rows are named.
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
    """The comparison of one column.

    `reference` and `window` are the numbers of values. `measure` names `value`, which must reach the `threshold` if
    there is one; `p` is the corrected p-value, which must be at most alpha if there is one. `also` holds further
    distances, for information. `rows` are ids of the window's sample that moved most, the farthest first, if the column
    drifted. Without enough data there is no value and no p-value.
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
    """Return a result for each column of the window, in the order of numbers, categories, vectors.

    Raises ValueError when both bin a number differently.
    """
    limits = thresholds or DriftThresholds()
    results = [
        *_compare_numbers(reference, window, limits),
        *_compare_categories(reference, window, limits),
        *_compare_vectors(reference, window, limits),
    ]
    decided = _decide_states(_correct_results(results, limits), limits)
    return [_name_rows(result, reference, window, limits) for result in decided]


def drifted_columns(results: Sequence[ColumnResult]) -> list[ColumnResult]:
    """Return the results of the columns that drifted."""
    return [result for result in results if result.state == DRIFTED]


def _compare_numbers(reference: DriftSummary, window: DriftSummary, limits: DriftThresholds) -> Iterator[ColumnResult]:
    for name, observed in window.numbers.items():
        known = reference.numbers.get(name)
        if known is None:
            yield ColumnResult(name, NOT_ENOUGH_DATA, 0, observed.total)
            continue
        if reference.layout.edges[name] != window.layout.edges[name]:
            raise ValueError(f"{name}: reference and window have other bins")
        result = ColumnResult(name, STABLE, known.total, observed.total)
        if _has_too_few_rows(result, limits):
            yield replace(result, state=NOT_ENOUGH_DATA)
            continue
        distance = normed_wasserstein(known, observed)
        if result.window < limits.small:
            statistic, p = kolmogorov_smirnov_test(known, observed)
            yield replace(
                result, measure=Measure.KOLMOGOROV_SMIRNOV, value=statistic, p=p, also={Measure.WASSERSTEIN: distance}
            )
        else:
            yield replace(result, measure=Measure.WASSERSTEIN, value=distance, threshold=limits.wasserstein)


def _compare_categories(
    reference: DriftSummary, window: DriftSummary, limits: DriftThresholds
) -> Iterator[ColumnResult]:
    for name, observed in window.categories.items():
        known = reference.categories.get(name, Counter())
        result = ColumnResult(name, STABLE, known.total(), observed.total())
        if _has_too_few_rows(result, limits):
            yield replace(result, state=NOT_ENOUGH_DATA)
            continue
        names, p, q = category_shares(known, observed)
        distances: dict[str, float] = {
            Measure.JENSEN_SHANNON: float(jensen_shannon_distance(p, q)),
            Measure.L_INFINITY: float(np.abs(p - q).max()),
            Measure.STABILITY_INDEX: population_stability_index(p, q),
        }
        if result.window < limits.small:
            statistic, p_value = chi_square_test(known, observed)
            yield replace(result, measure=Measure.CHI_SQUARE, value=statistic, p=p_value, also=distances)
            continue
        measure, threshold = Measure.JENSEN_SHANNON, limits.jensen_shannon
        if len(names) > limits.many:
            measure, threshold = Measure.L_INFINITY, limits.l_infinity
        yield replace(result, measure=measure, value=distances.pop(measure), threshold=threshold, also=distances)


def _compare_vectors(reference: DriftSummary, window: DriftSummary, limits: DriftThresholds) -> Iterator[ColumnResult]:
    """Compare vectors by the samples, whose sizes are the numbers of values that count."""
    for name in window.sample.vectors:
        rows, observed = _finite_vectors(window.sample, name)
        known = observed[:0]
        if name in reference.sample.vectors:
            known = _finite_vectors(reference.sample, name)[1]
        result = ColumnResult(name, STABLE, len(known), len(observed))
        if _has_too_few_rows(result, limits):
            yield replace(result, state=NOT_ENOUGH_DATA)
            continue
        area, p, scores = domain_classifier_test(known, observed)
        ids = [window.sample.ids[rows[number]] for number in np.argsort(-scores)[: limits.named]]
        # The sample stays small however large the window is: chance must be ruled out before the area counts.
        threshold = limits.auc if window.rows >= limits.small else None
        yield replace(result, measure=Measure.DOMAIN_CLASSIFIER, value=area, threshold=threshold, p=p, rows=ids)


def _has_too_few_rows(result: ColumnResult, limits: DriftThresholds) -> bool:
    return min(result.reference, result.window) < limits.least


def _finite_vectors(sample: RowSample, name: str) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the numbers of the sample's rows that have a vector, and the vectors."""
    vectors = sample.vectors[name].astype(np.float64)
    rows = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    return rows, vectors[rows]


def _correct_results(results: Sequence[ColumnResult], limits: DriftThresholds) -> list[ColumnResult]:
    """Return the results with their p-values corrected for the number of tested columns."""
    p_values = [result.p for result in results if result.p is not None]
    corrected = iter(correct_p_values(p_values, limits.correction))
    return [result if result.p is None else replace(result, p=next(corrected)) for result in results]


def _decide_states(results: Sequence[ColumnResult], limits: DriftThresholds) -> Iterator[ColumnResult]:
    for result in results:
        if result.state == NOT_ENOUGH_DATA:
            yield result
            continue
        is_significant = result.p is None or result.p <= limits.alpha
        is_large = result.value is None or result.threshold is None or result.value >= result.threshold
        yield replace(result, state=DRIFTED if is_significant and is_large else STABLE)


def _name_rows(
    result: ColumnResult, reference: DriftSummary, window: DriftSummary, limits: DriftThresholds
) -> ColumnResult:
    """Return the result with the ids of the rows that moved most, if the column drifted."""
    if result.state != DRIFTED:
        return replace(result, rows=())
    if result.rows:
        return result
    if result.column in window.numbers:
        rows = _farthest_numbers(result.column, reference, window)
    else:
        rows = _gaining_categories(result.column, reference, window)
    return replace(result, rows=rows[: limits.named])


def _farthest_numbers(column: str, reference: DriftSummary, window: DriftSummary) -> list[str]:
    """Return the sampled rows beyond the widest gap between the distribution functions, the outermost first."""
    gaps = distribution_gaps(reference.numbers[column], window.numbers[column])
    if not len(gaps):
        return []
    widest = int(np.abs(gaps).argmax())
    edge, has_moved_down = window.layout.edges[column][widest], gaps[widest] > 0
    values = window.sample.numbers[column]
    order = np.argsort(values if has_moved_down else -values)  # NaN is sorted to the end
    is_beyond = values <= edge if has_moved_down else values > edge
    return [window.sample.ids[row] for row in order if is_beyond[row]]


def _gaining_categories(column: str, reference: DriftSummary, window: DriftSummary) -> list[str]:
    """Return the sampled rows of categories whose share grew, those of the largest growth first."""
    names, p, q = category_shares(reference.categories[column], window.categories[column])
    growth = dict(zip(names, (q - p).tolist(), strict=True))
    rows_by_growth = []
    for row, name in enumerate(window.sample.categories[column]):
        # The sample may hold a label that was given after the counts were made.
        if name is not None and growth.get(name, 0.0) > 0:
            rows_by_growth.append((-growth[name], row))
    return [window.sample.ids[row] for _growth, row in sorted(rows_by_growth)]
