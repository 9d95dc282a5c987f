"""Test the differences of two classifiers on the same products. Pure functions over arrays."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Keeps the logarithm finite where a model is certain and wrong.
FLOOR = 1e-7

RESAMPLES = 2_000
# How many figures the bootstrap holds at a time.
BATCH_VALUES = 4_000_000


@dataclass(frozen=True)
class McNemar:
    """The result of McNemar's test: how many products only the first and only the second got right, and p-values."""

    only_first: int
    only_second: int
    exact: float
    mid_p: float
    second_is_worse: float


def mcnemar(first_correct: npt.NDArray[np.bool_], second_correct: npt.NDArray[np.bool_]) -> McNemar:
    """Test whether two classifiers are equally often right on the same products, (n,) each.

    Given their number, products that only one got right are coin tosses under the null hypothesis. `exact` is the
    two-sided p of that sign test (McNemar 1947); `mid_p` counts the observed split half (Fagerland, Lydersen and Laake
    2013, "The McNemar test for binary matched-pairs data", section "McNemar mid-p test"), which keeps its level and is
    less conservative; `second_is_worse` is the one-sided mid-p. Without such products all are 1.
    Raises ValueError when the lengths differ.
    """
    from scipy import stats

    if first_correct.shape != second_correct.shape:
        raise ValueError(f"{first_correct.shape} and {second_correct.shape} are not the same products")
    first = int(np.sum(first_correct & ~second_correct))
    second = int(np.sum(second_correct & ~first_correct))
    tosses = first + second
    if tosses == 0:
        return McNemar(0, 0, 1.0, 1.0, 1.0)
    exact = float(stats.binomtest(first, tosses).pvalue)
    if first == second:  # both tails contain the observed split
        mid_p = float(1 - stats.binom.pmf(first, tosses, 0.5) / 2)
    else:
        mid_p = float(exact - stats.binom.pmf(first, tosses, 0.5))
    at_least = float(stats.binom.sf(first - 1, tosses, 0.5) - stats.binom.pmf(first, tosses, 0.5) / 2)
    return McNemar(first, second, min(exact, 1.0), min(mid_p, 1.0), at_least)


@dataclass(frozen=True)
class Interval:
    """A mean difference and its 95 % confidence interval."""

    difference: float
    low: float
    high: float


def paired_bootstrap(first: Values, second: Values, *, resamples: int = RESAMPLES, seed: int = 18) -> Interval:
    """Return the mean of second - first, figures of the same products (n,) each, with its 95 % interval.

    Products are drawn with replacement as pairs (Efron and Tibshirani 1993, "An Introduction to the Bootstrap",
    section 13.3, the percentile interval), by scipy.stats.bootstrap. Raises ValueError when the lengths differ.
    """
    from scipy import stats

    if first.shape != second.shape or len(first) == 0:
        raise ValueError(f"{first.shape} and {second.shape} are not the same products")
    differences = second.astype(np.float64) - first
    mean = float(differences.mean())
    # The bootstrap of constant differences is degenerate: the interval is the mean itself.
    if len(differences) < 2 or np.ptp(differences) == 0:
        return Interval(mean, mean, mean)
    result = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=resamples,
        batch=max(BATCH_VALUES // len(differences), 1),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))


@dataclass(frozen=True)
class ProductScores:
    """The scores of a classifier on each of n products.

    `correct` and `in_top5` (n,): whether the true category came first, or among the first five; `loss` (n,) is
    -ln p(true category), in nats.
    """

    correct: Flags
    in_top5: Flags
    loss: Values

    @classmethod
    def from_ranks(cls, ranks: npt.ArrayLike, probabilities: npt.ArrayLike) -> Self:
        """Return the scores of true categories, given their ranks (n,), 0 being the first, and probabilities (n,)."""
        places, chances = np.asarray(ranks), np.asarray(probabilities, np.float64)
        return cls(places == 0, places < 5, -np.log(np.maximum(chances, FLOOR)))

    def __len__(self) -> int:
        return len(self.correct)

    def select(self, rows: npt.ArrayLike) -> "ProductScores":
        """Return the scores of some products, chosen by index or flag."""
        chosen = np.asarray(rows)
        return ProductScores(self.correct[chosen], self.in_top5[chosen], self.loss[chosen])


@dataclass(frozen=True)
class PairedFigure:
    """One mean figure of two classifiers, and the 95 % interval of second - first."""

    first: float
    second: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.second - self.first

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0: a difference that isn't clear may be noise."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class PairedFigures:
    """The paired figures of two classifiers on the same n products.

    `lost` counts the products that only the first got right and `won` those that only the second did;
    `p_worse` is McNemar's one-sided mid-p for the second being less often right.
    """

    n: int
    accuracy: PairedFigure
    top5: PairedFigure
    log_loss: PairedFigure
    lost: int
    won: int
    p_worse: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures as `ModelVersion.gate` stores them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return figures that `to_json` wrote."""
        figures = {name: PairedFigure(**values[name]) for name in ("accuracy", "top5", "log_loss")}
        return cls(n=values["n"], lost=values["lost"], won=values["won"], p_worse=values["p_worse"], **figures)


def compare_paired(first: ProductScores, second: ProductScores) -> PairedFigures:
    """Compare two classifiers on the same products. Raises ValueError when there is none or the lengths differ."""
    test = mcnemar(first.correct, second.correct)
    return PairedFigures(
        n=len(first),
        accuracy=_figure(first.correct, second.correct),
        top5=_figure(first.in_top5, second.in_top5),
        log_loss=_figure(first.loss, second.loss),
        lost=test.only_first,
        won=test.only_second,
        p_worse=test.second_is_worse,
    )


def _figure(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> PairedFigure:
    before, after = first.astype(np.float64), second.astype(np.float64)
    interval = paired_bootstrap(before, after)
    return PairedFigure(float(before.mean()), float(after.mean()), interval.low, interval.high)
