import numpy as np
import pytest

from feedback.statistics.proportions import Proportion


def test_an_interval_contains_its_proportion_and_narrows_with_more_answers() -> None:
    low, high = Proportion(80, 100).interval()
    assert (low, high) == pytest.approx((0.7112, 0.8666), abs=1e-4)
    narrow = Proportion(800, 1000).interval()
    assert low < narrow[0] < 0.8 < narrow[1] < high
    assert Proportion(0, 40).interval()[0] == 0.0
    assert Proportion(40, 40).interval()[1] == 1.0


def test_the_probability_of_being_greater_matches_draws_from_both_posteriors() -> None:
    a, b = Proportion(160, 200), Proportion(175, 200)
    random = np.random.default_rng(0)
    draws = random.beta(175.5, 25.5, 200_000) > random.beta(160.5, 40.5, 200_000)
    assert b.probability_greater_than(a) == pytest.approx(draws.mean(), abs=0.003)
    assert b.probability_greater_than(b) == pytest.approx(0.5, abs=1e-6)
    assert a.probability_greater_than(b) == pytest.approx(1 - b.probability_greater_than(a), abs=1e-3)  # type: ignore[operator]


def test_too_few_answers_give_no_probability() -> None:
    assert Proportion(29, 29).probability_greater_than(Proportion(100, 200)) is None
    assert not Proportion(0, 0).is_enough


def test_extreme_counts_give_finite_probabilities() -> None:
    assert Proportion(10_000, 10_000).probability_greater_than(Proportion(0, 10_000)) == pytest.approx(1.0)
    assert Proportion(0, 10_000).probability_greater_than(Proportion(10_000, 10_000)) == pytest.approx(0.0)
