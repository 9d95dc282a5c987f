import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from feedback.statistics import intervals
from feedback.statistics.intervals import Estimate, WeightedSums
from tests.support.forecasts import weighted_estimate


def test_a_proportion_without_rows_is_none() -> None:
    assert intervals.estimate_proportion(0, 0) is None
    assert weighted_estimate(np.zeros(0, bool), np.zeros(0)) is None


def test_one_row_gives_an_estimate_that_is_not_enough() -> None:
    estimate = intervals.estimate_proportion(1, 1)
    assert estimate is not None
    assert estimate.value == 1.0
    assert estimate.low < 0.25
    assert not estimate.is_enough


@pytest.mark.parametrize("right", [np.arange(90) % 3 > 0, np.ones(90, bool), np.zeros(90, bool)])
def test_equal_inclusion_probabilities_give_the_unweighted_estimate(right: np.ndarray) -> None:
    plain, found = intervals.estimate_proportion(int(right.sum()), 90), weighted_estimate(right, np.full(90, 0.2))
    assert plain is not None
    assert found is not None
    assert (found.value, found.low, found.high, found.effective) == pytest.approx(
        (plain.value, plain.low, plain.high, plain.effective)
    )


def test_effective_rows_follow_from_the_linearised_variance() -> None:
    rng = np.random.default_rng(11)
    right, chance = rng.random(400) < 0.8, rng.uniform(0.1, 1, 400)
    found, weights = weighted_estimate(right, chance), 1 / chance
    value = np.average(right, weights=weights)
    variance = np.sum((weights * (right - value)) ** 2) / weights.sum() ** 2
    assert found is not None
    assert (found.value, found.effective) == pytest.approx((value, value * (1 - value) / variance))


def test_weighting_removes_the_bias_of_selective_review() -> None:
    rng = np.random.default_rng(7)
    hits, plain, values = 0, [], []
    for _ in range(300):
        doubtful = rng.random(4_000) < 0.2
        right = np.where(doubtful, rng.random(4_000) < 0.4, rng.random(4_000) < 0.95)
        chance = np.where(doubtful, 1.0, 0.1)
        seen = rng.random(4_000) < chance
        estimate = weighted_estimate(right[seen], chance[seen])
        assert estimate is not None
        hits += estimate.low <= 0.84 <= estimate.high
        values.append(estimate.value)
        plain.append(right[seen].mean())
    assert np.mean(values) == pytest.approx(0.84, abs=0.003)
    assert np.mean(plain) < 0.65
    assert stats.binomtest(hits, 300, 0.95, alternative="less").pvalue > 0.001


def test_accuracy_weights_need_enough_rows_of_both_models() -> None:
    good, poor, thin = (Estimate(v, 0, 1, n, n) for v, n in ((0.9, 100), (0.6, 100), (0.6, 10)))
    assert intervals.accuracy_weights({"text": good, "image": poor}) == pytest.approx({"text": 0.6, "image": 0.4})
    assert intervals.accuracy_weights({"text": good, "image": thin}) is None
    assert intervals.accuracy_weights({"text": good, "image": None}) is None
    never = Estimate(0.0, 0, 0.1, 100, 100)
    assert intervals.accuracy_weights({"text": never, "image": never}) is None


def test_kappa_equals_sklearns_and_its_interval_covers() -> None:
    rng = np.random.default_rng(3)

    def pair(count: int) -> tuple[list[str], list[str]]:
        first = rng.choice(["a", "b", "c"], count, p=[0.6, 0.3, 0.1])
        second = np.where(rng.random(count) < 0.7, first, rng.choice(["a", "b", "c"], count))
        return [str(x) for x in first], [str(x) for x in second]

    one, other = pair(400)
    found = intervals.cohen_kappa(one, other)
    assert found is not None
    assert found.value == pytest.approx(cohen_kappa_score(one, other))
    first, second = pair(400_000)
    truth = cohen_kappa_score(first, second)
    hits = sum(k.low <= truth <= k.high for k in (intervals.cohen_kappa(*pair(200)) for _ in range(300)) if k)
    assert stats.binomtest(hits, 300, 0.95).pvalue > 0.001


def test_kappa_is_none_where_it_is_undefined() -> None:
    assert intervals.cohen_kappa([], []) is None
    assert intervals.cohen_kappa(["a", "a"], ["a", "a"]) is None
    perfect = intervals.cohen_kappa(["a", "b"], ["a", "b"])
    assert perfect is not None
    assert (perfect.value, perfect.agreement) == (1.0, 1.0)
    with pytest.raises(ValueError, match="same items"):
        intervals.cohen_kappa(["a"], [])


@pytest.mark.parametrize("right", range(1, 30))
def test_thirty_rows_of_equal_weight_are_enough(right: int) -> None:
    estimate = intervals.estimate_weighted_proportion(WeightedSums(30, 300.0, 3000.0, 10.0 * right, 100.0 * right))
    assert estimate is not None and estimate.is_enough
