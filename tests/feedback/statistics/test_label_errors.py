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
    errors = label_errors.find_label_errors({"text": probabilities, "image": probabilities}, given)
    score = average_precision_score(wrong, errors.suspicion)
    assert score > 0.7
    assert score > average_precision_score(wrong, -probabilities.max(axis=1)) + 0.4
    assert wrong[errors.found].mean() > 0.5
    assert (errors.suggested == probabilities.argmax(axis=1)).all()


def test_a_model_that_cannot_answer_leaves_the_word_to_the_other() -> None:
    probabilities, given, _ = flipped(400)
    silent = np.full_like(probabilities, NAN)
    alone = label_errors.find_label_errors({"text": probabilities}, given)
    both = label_errors.find_label_errors({"text": probabilities, "image": silent}, given)
    np.testing.assert_array_equal(alone.suspicion, both.suspicion)
    np.testing.assert_array_equal(alone.found, both.found)
    nobody = label_errors.find_label_errors({"image": silent}, given)
    assert np.isnan(nobody.suspicion).all()
    assert not nobody.found.any()


def test_label_errors_of_nothing_and_of_unknown_labels() -> None:
    empty = label_errors.find_label_errors({"text": np.empty((0, 3))}, np.empty(0, int))
    assert len(empty.suspicion) == 0
    for given in ([3], [-1], [0, 0]):
        with pytest.raises(ValueError, match="label"):
            label_errors.find_label_errors({"text": np.full((1, 3), 1 / 3)}, np.array(given))
    with pytest.raises(ValueError, match="model"):
        label_errors.find_label_errors({}, np.array([0]))


def test_disagreement_and_entropy_have_their_known_values() -> None:
    one, other = np.array([[1.0, 0.0], [0.5, 0.5], [NAN, NAN]]), np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(label_errors.jensen_shannon_divergence(one, other), [1.0, 0.0, NAN], atol=1e-12)
    np.testing.assert_allclose(label_errors.row_entropy(one), [0.0, 1.0, NAN])
