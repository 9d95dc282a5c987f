import json

import numpy as np
import pytest
from scipy import stats

from feedback.statistics.performance_estimation import Calibrator, estimate_accuracy
from tests.support.forecasts import draw_forecasts

NAN = np.nan


def test_the_estimate_is_near_the_true_accuracy_and_its_interval_covers() -> None:
    hits, errors = 0, []
    for turn in range(200):
        known, targets = draw_forecasts(2_000, turn)
        # Overconfident: the calibrator has to correct it.
        overconfident = known.max(axis=1) ** 0.5
        calibrator = Calibrator.fit(overconfident, known.argmax(axis=1) == targets)
        window, truth = draw_forecasts(500, 10_000 + turn)
        assert calibrator is not None
        expected = estimate_accuracy(window.max(axis=1) ** 0.5, calibrator)
        assert expected is not None
        true = float((window.argmax(axis=1) == truth).mean())
        errors.append(expected.accuracy - true)
        hits += expected.low <= true <= expected.high
    assert abs(np.mean(errors)) < 0.005
    assert stats.binomtest(hits, 200, 0.95, alternative="less").pvalue > 0.001


def test_a_harder_window_has_a_lower_estimate() -> None:
    known, targets = draw_forecasts(3_000, 1)
    calibrator = Calibrator.fit(known.max(axis=1), known.argmax(axis=1) == targets)
    hard, truth = draw_forecasts(1_000, 2, sharpness=0.8)
    assert calibrator is not None
    expected = estimate_accuracy(hard.max(axis=1), calibrator)
    assert expected is not None
    assert expected.accuracy == pytest.approx((hard.argmax(axis=1) == truth).mean(), abs=0.05)


def test_too_few_rows_give_no_estimate() -> None:
    assert Calibrator.fit(np.full(29, 0.9), np.ones(29, bool)) is None
    calibrator = Calibrator.fit(np.full(40, 0.9), np.ones(40, bool))
    assert calibrator is not None
    assert estimate_accuracy(np.zeros(0), calibrator) is None
    assert estimate_accuracy(np.full(100, NAN), calibrator) is None
    certain = estimate_accuracy(np.full(100, 0.9), calibrator)
    assert certain is not None
    assert certain.accuracy == 1.0
    assert certain.low < 0.99  # 40 right answers are no proof that there are no wrong ones


def test_a_calibrator_is_monotonic_and_survives_json() -> None:
    known, targets = draw_forecasts(1_000, 4)
    calibrator = Calibrator.fit(known.max(axis=1), known.argmax(axis=1) == targets)
    assert calibrator is not None
    assert Calibrator.from_json(json.loads(json.dumps(calibrator.to_json()))) == calibrator
    assert (np.diff(calibrator.apply(np.linspace(0, 1, 200))) >= 0).all()


def test_equal_confidences_share_one_knot_of_the_calibrator() -> None:
    chance = np.random.default_rng(18)
    confidence = np.where(np.arange(2_000) < 1_900, 0.97, chance.uniform(0.3, 0.9, 2_000))
    right = chance.random(2_000) < np.where(confidence == 0.97, 0.9, 0.4)
    known = Calibrator.fit(confidence, right)
    assert known is not None
    assert len(set(known.confidence)) == len(known.confidence) and sum(known.rows) == 2_000
    assert known.apply(np.array([0.97]))[0] == pytest.approx(right[:1_900].mean())
