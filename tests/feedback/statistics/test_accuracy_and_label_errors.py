"""Accuracy, calibration, agreement, estimates without labels, and the order of review."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, cohen_kappa_score

from feedback.statistics import intervals, label_errors
from feedback.statistics.intervals import Estimate
from feedback.statistics.performance_estimation import Calibrator, expected_accuracy
from tests.support.forecasts import draw_forecasts, weighted_estimate

NAN = np.nan


@pytest.mark.parametrize(("right", "total"), [(0, 10), (10, 10), (1, 1), (80, 100), (3, 7)])
def test_wilsons_interval_is_scipys(right: int, total: int) -> None:
    known = stats.binomtest(right, total).proportion_ci(method="wilson")
    assert intervals.wilson(right, total) == pytest.approx((known.low, known.high))


def test_a_share_of_nothing_is_none_or_refused() -> None:
    assert intervals.share_of(0, 0) is None
    assert weighted_estimate(np.zeros(0, bool), np.zeros(0)) is None
    with pytest.raises(ValueError, match="no share"):
        intervals.wilson(0, 0)
    with pytest.raises(ValueError, match="no share"):
        intervals.wilson(3, 2)


def test_one_row_is_a_figure_but_not_enough() -> None:
    estimate = intervals.share_of(1, 1)
    assert estimate is not None
    assert estimate.value == 1.0
    assert estimate.low < 0.25
    assert not estimate.is_enough


@pytest.mark.parametrize("right", [np.arange(90) % 3 > 0, np.ones(90, bool), np.zeros(90, bool)])
def test_equal_chances_change_nothing(right: np.ndarray) -> None:
    plain, found = intervals.share_of(int(right.sum()), 90), weighted_estimate(right, np.full(90, 0.2))
    assert plain is not None
    assert found is not None
    assert (found.value, found.low, found.high, found.effective) == pytest.approx(
        (plain.value, plain.low, plain.high, plain.effective)
    )


def test_the_effective_rows_are_those_of_the_linearised_variance() -> None:
    rng = np.random.default_rng(11)
    right, chance = rng.random(400) < 0.8, rng.uniform(0.1, 1, 400)
    found, weights = weighted_estimate(right, chance), 1 / chance
    value = np.average(right, weights=weights)
    variance = np.sum((weights * (right - value)) ** 2) / weights.sum() ** 2
    assert found is not None
    assert (found.value, found.effective) == pytest.approx((value, value * (1 - value) / variance))


def test_aimed_review_is_unbiased_when_weighted_and_misleads_when_not() -> None:
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


def test_weights_follow_accuracies_and_wait_for_enough_rows() -> None:
    good, poor, thin = (Estimate(v, 0, 1, n, n) for v, n in ((0.9, 100), (0.6, 100), (0.6, 10)))
    assert intervals.weights({"text": good, "image": poor}) == pytest.approx({"text": 0.6, "image": 0.4})
    assert intervals.weights({"text": good, "image": thin}) is None
    assert intervals.weights({"text": good, "image": None}) is None
    never = Estimate(0.0, 0, 0.1, 100, 100)
    assert intervals.weights({"text": never, "image": never}) is None


def test_kappa_is_sklearns_and_its_interval_covers() -> None:
    rng = np.random.default_rng(3)

    def pair(count: int) -> tuple[list[str], list[str]]:
        first = rng.choice(["a", "b", "c"], count, p=[0.6, 0.3, 0.1])
        second = np.where(rng.random(count) < 0.7, first, rng.choice(["a", "b", "c"], count))
        return [str(x) for x in first], [str(x) for x in second]

    one, other = pair(400)
    found = intervals.kappa(one, other)
    assert found is not None
    assert found.value == pytest.approx(cohen_kappa_score(one, other))
    first, second = pair(400_000)
    truth = cohen_kappa_score(first, second)
    hits = sum(k.low <= truth <= k.high for k in (intervals.kappa(*pair(200)) for _ in range(300)) if k)
    assert stats.binomtest(hits, 300, 0.95).pvalue > 0.001


def test_kappa_is_silent_where_it_means_nothing() -> None:
    assert intervals.kappa([], []) is None
    assert intervals.kappa(["a", "a"], ["a", "a"]) is None
    perfect = intervals.kappa(["a", "b"], ["a", "b"])
    assert perfect is not None
    assert (perfect.value, perfect.agreement) == (1.0, 1.0)
    with pytest.raises(ValueError, match="same items"):
        intervals.kappa(["a"], [])


# Without labels


def test_expected_accuracy_is_near_the_true_one_and_its_interval_covers() -> None:
    hits, errors = 0, []
    for turn in range(200):
        known, targets = draw_forecasts(2_000, turn)
        # What the models say is too sure: the calibrator has to mend that.
        said = known.max(axis=1) ** 0.5
        calibrator = Calibrator.fit(said, known.argmax(axis=1) == targets)
        window, truth = draw_forecasts(500, 10_000 + turn)
        assert calibrator is not None
        expected = expected_accuracy(window.max(axis=1) ** 0.5, calibrator)
        assert expected is not None
        true = float((window.argmax(axis=1) == truth).mean())
        errors.append(expected.accuracy - true)
        hits += expected.low <= true <= expected.high
    assert abs(np.mean(errors)) < 0.005
    assert stats.binomtest(hits, 200, 0.95, alternative="less").pvalue > 0.001


def test_a_harder_window_is_expected_to_go_worse() -> None:
    known, targets = draw_forecasts(3_000, 1)
    calibrator = Calibrator.fit(known.max(axis=1), known.argmax(axis=1) == targets)
    hard, truth = draw_forecasts(1_000, 2, sharpness=0.8)
    assert calibrator is not None
    expected = expected_accuracy(hard.max(axis=1), calibrator)
    assert expected is not None
    assert expected.accuracy == pytest.approx((hard.argmax(axis=1) == truth).mean(), abs=0.05)


def test_too_few_rows_estimate_nothing() -> None:
    assert Calibrator.fit(np.full(29, 0.9), np.ones(29, bool)) is None
    calibrator = Calibrator.fit(np.full(40, 0.9), np.ones(40, bool))
    assert calibrator is not None
    assert expected_accuracy(np.zeros(0), calibrator) is None
    assert expected_accuracy(np.full(100, NAN), calibrator) is None
    certain = expected_accuracy(np.full(100, 0.9), calibrator)
    assert certain is not None
    assert certain.accuracy == 1.0
    assert certain.low < 0.99  # 40 right answers are no proof that there are no wrong ones


def test_a_calibrator_rises_and_survives_json() -> None:
    known, targets = draw_forecasts(1_000, 4)
    calibrator = Calibrator.fit(known.max(axis=1), known.argmax(axis=1) == targets)
    assert calibrator is not None
    assert Calibrator.from_json(json.loads(json.dumps(calibrator.to_json()))) == calibrator
    assert (np.diff(calibrator.apply(np.linspace(0, 1, 200))) >= 0).all()


# Label errors


def flipped(count: int = 3_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probabilities, true = draw_forecasts(count, seed, sharpness=4.0)
    rng = np.random.default_rng(seed)
    wrong = rng.random(count) < 0.1
    return probabilities, np.where(wrong, (true + rng.integers(1, 5, count)) % 5, true), wrong


def test_confident_learning_counts_as_cleanlab_does() -> None:
    from cleanlab.count import compute_confident_joint

    probabilities, given, _ = flipped()
    confident = label_errors.confident_categories(probabilities, given)
    joint = np.zeros((5, 5), int)
    kept = confident >= 0
    np.add.at(joint, (given[kept], confident[kept]), 1)
    np.testing.assert_array_equal(joint, compute_confident_joint(given, probabilities, calibrate=False))


def test_wrong_labels_come_first() -> None:
    probabilities, given, wrong = flipped()
    errors = label_errors.label_errors({"text": probabilities, "image": probabilities}, given)
    score = average_precision_score(wrong, errors.suspicion)
    assert score > 0.7
    assert score > average_precision_score(wrong, -probabilities.max(axis=1)) + 0.4
    assert wrong[errors.found].mean() > 0.5
    assert (errors.suggested == probabilities.argmax(axis=1)).all()


def test_a_model_that_cannot_answer_leaves_the_word_to_the_other() -> None:
    probabilities, given, _ = flipped(400)
    silent = np.full_like(probabilities, NAN)
    alone = label_errors.label_errors({"text": probabilities}, given)
    both = label_errors.label_errors({"text": probabilities, "image": silent}, given)
    np.testing.assert_array_equal(alone.suspicion, both.suspicion)
    np.testing.assert_array_equal(alone.found, both.found)
    nobody = label_errors.label_errors({"image": silent}, given)
    assert np.isnan(nobody.suspicion).all()
    assert not nobody.found.any()


def test_label_errors_of_nothing_and_of_unknown_labels() -> None:
    empty = label_errors.label_errors({"text": np.empty((0, 3))}, np.empty(0, int))
    assert len(empty.suspicion) == 0
    for given in ([3], [-1], [0, 0]):
        with pytest.raises(ValueError, match="label"):
            label_errors.label_errors({"text": np.full((1, 3), 1 / 3)}, np.array(given))
    with pytest.raises(ValueError, match="model"):
        label_errors.label_errors({}, np.array([0]))


def test_disagreement_and_entropy_have_their_known_values() -> None:
    one, other = np.array([[1.0, 0.0], [0.5, 0.5], [NAN, NAN]]), np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(label_errors.disagreement(one, other), [1.0, 0.0, NAN], atol=1e-12)
    np.testing.assert_allclose(label_errors.entropy(one), [0.0, 1.0, NAN])


def test_the_queue_holds_every_row_once_and_says_why() -> None:
    ids = [f"id {row}" for row in range(500)]
    rng = np.random.default_rng(0)
    errors, doubt = rng.random(500), rng.random(500)
    errors[10:] = NAN
    order = label_errors.review_order(ids, {"label error": errors, "doubt": doubt}, random_share=0.1)
    assert sorted(place.row for place in order) == list(range(500))
    drawn = label_errors.in_random_share(ids, 0.1)
    assert {place.row for place in order if place.reason == "random"} == set(np.flatnonzero(drawn))
    assert sum(place.reason == "random" for place in order[:200]) == 20
    aimed = [place for place in order if place.reason != "random"]
    surest = next(row for row in np.argsort(-np.where(np.isnan(errors), -1, errors)) if not drawn[row])
    assert (aimed[0].row, aimed[0].reason) == (surest, "label error")


def test_the_random_share_is_random_and_no_score_can_change_it() -> None:
    ids = [f"id {row}" for row in range(20_000)]
    assert label_errors.in_random_share(ids, 0.1).mean() == pytest.approx(0.1, abs=0.01)
    assert not label_errors.in_random_share(ids, 0.0).any()
    assert label_errors.in_random_share(ids, 1.0).all()
    high = {"doubt": np.arange(300.0)}
    low = {"doubt": -np.arange(300.0)}
    first, second = (
        [place.row for place in label_errors.review_order(ids[:300], scores) if place.reason == "random"]
        for scores in (high, low)
    )
    assert first == second


def test_a_queue_of_nothing_and_one_of_chance_alone() -> None:
    assert label_errors.review_order([], {}) == []
    assert len(label_errors.review_order(["a", "b"], {}, random_share=1.0)) == 2
    assert len(label_errors.review_order(["a", "b"], {"x": np.array([NAN, NAN])}, random_share=0.0)) == 2
    with pytest.raises(ValueError, match="random share"):
        label_errors.review_order(["a"], {}, random_share=1.5)
    with pytest.raises(ValueError, match="each row"):
        label_errors.review_order(["a"], {"x": np.zeros(2)})


def test_equal_confidences_are_one_step_of_the_calibrator() -> None:
    chance = np.random.default_rng(18)
    confidence = np.where(np.arange(2_000) < 1_900, 0.97, chance.uniform(0.3, 0.9, 2_000))
    right = chance.random(2_000) < np.where(confidence == 0.97, 0.9, 0.4)
    known = Calibrator.fit(confidence, right)
    assert known is not None
    assert len(set(known.confidence)) == len(known.confidence) and sum(known.rows) == 2_000
    assert known.apply(np.array([0.97]))[0] == pytest.approx(right[:1_900].mean())


@pytest.mark.parametrize("right", range(1, 30))
def test_thirty_rows_of_the_same_weight_are_thirty_rows(right: int) -> None:
    estimate = intervals.weighted_share(30, 300.0, 3000.0, 10.0 * right, 100.0 * right)
    assert estimate is not None and estimate.is_enough
