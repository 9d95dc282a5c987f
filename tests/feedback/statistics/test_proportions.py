import numpy as np
import pytest

from feedback.statistics.proportions import Proportion


def test_an_interval_holds_its_share_and_shrinks_with_answers() -> None:
    low, high = Proportion(80, 100).interval()
    assert (low, high) == pytest.approx((0.7134, 0.8696), abs=1e-3)
    narrow = Proportion(800, 1000).interval()
    assert low < narrow[0] < 0.8 < narrow[1] < high
    assert Proportion(0, 40).interval()[0] == 0.0
    assert Proportion(40, 40).interval()[1] == 1.0


def test_the_chance_to_beat_is_what_draws_from_both_posteriors_give() -> None:
    a, b = Proportion(160, 200), Proportion(175, 200)
    random = np.random.default_rng(0)
    draws = random.beta(175.5, 25.5, 200_000) > random.beta(160.5, 40.5, 200_000)
    assert b.chance_to_beat(a) == pytest.approx(draws.mean(), abs=0.003)
    assert b.chance_to_beat(b) == pytest.approx(0.5, abs=1e-6)
    assert a.chance_to_beat(b) == pytest.approx(1 - b.chance_to_beat(a), abs=1e-3)  # type: ignore[operator]


def test_with_few_answers_nothing_is_said() -> None:
    assert Proportion(29, 29).chance_to_beat(Proportion(100, 200)) is None
    assert not Proportion(0, 0).is_enough


def test_sure_things_stay_numbers() -> None:
    assert Proportion(10_000, 10_000).chance_to_beat(Proportion(0, 10_000)) == pytest.approx(1.0)
    assert Proportion(0, 10_000).chance_to_beat(Proportion(10_000, 10_000)) == pytest.approx(0.0)
