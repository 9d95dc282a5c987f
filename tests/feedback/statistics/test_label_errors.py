import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from feedback.statistics import label_errors
from tests.support.forecasts import draw_forecasts

NAN = np.nan


def flipped(count: int = 3_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probabilities, true = draw_forecasts(count, seed, sharpness=4.0)
    rng = np.random.default_rng(seed)
    wrong = rng.random(count) < 0.1
    return probabilities, np.where(wrong, (true + rng.integers(1, 5, count)) % 5, true), wrong


def test_confident_categories_follow_the_definition_of_confident_learning() -> None:
    probabilities, given, _ = flipped(300)
    thresholds = [probabilities[given == category, category].mean() for category in range(5)]
    expected = []
    for row in probabilities:
        reached = [category for category in range(5) if row[category] >= thresholds[category]]
        expected.append(max(reached, key=lambda category: row[category], default=-1))
    assert label_errors.confident_categories(probabilities, given).tolist() == expected


def test_wrong_labels_rank_first() -> None:
    probabilities, given, wrong = flipped()
    errors = label_errors.find_label_errors({"text": probabilities, "image": probabilities}, given)
    score = average_precision_score(wrong, errors.suspicion)
    assert score > 0.7
    assert score > average_precision_score(wrong, -probabilities.max(axis=1)) + 0.4
    assert wrong[errors.found].mean() > 0.5
    assert (errors.suggested == probabilities.argmax(axis=1)).all()


def test_a_model_without_an_answer_changes_nothing() -> None:
    probabilities, given, _ = flipped(400)
    missing = np.full_like(probabilities, NAN)
    alone = label_errors.find_label_errors({"text": probabilities}, given)
    both = label_errors.find_label_errors({"text": probabilities, "image": missing}, given)
    np.testing.assert_array_equal(alone.suspicion, both.suspicion)
    np.testing.assert_array_equal(alone.found, both.found)
    unanswered = label_errors.find_label_errors({"image": missing}, given)
    assert np.isnan(unanswered.suspicion).all()
    assert not unanswered.found.any()


def test_no_rows_give_no_errors_and_unknown_labels_raise() -> None:
    empty = label_errors.find_label_errors({"text": np.empty((0, 3))}, np.empty(0, int))
    assert len(empty.suspicion) == 0
    for given in ([3], [-1], [0, 0]):
        with pytest.raises(ValueError, match="label"):
            label_errors.find_label_errors({"text": np.full((1, 3), 1 / 3)}, np.array(given))
    with pytest.raises(ValueError, match="model"):
        label_errors.find_label_errors({}, np.array([0]))
