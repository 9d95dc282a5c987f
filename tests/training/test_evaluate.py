import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, top_k_accuracy_score

from training.evaluate import Probabilities, Targets, calibration_error, measure, measure_by, measure_classes, table


def sample(size: int = 500, classes: int = 8) -> tuple[Probabilities, Targets]:
    random = np.random.default_rng(7)
    probabilities = random.dirichlet(np.full(classes, 0.4), size).astype(np.float32)
    return probabilities, random.integers(0, classes, size)


def test_the_figures_are_those_of_scikit_learn() -> None:
    probabilities, targets = sample()
    figures = measure(probabilities, targets)
    predicted = probabilities.argmax(axis=1)
    assert figures["n"] == 500
    assert figures["accuracy"] == pytest.approx(np.mean(predicted == targets))
    assert figures["macro_f1"] == pytest.approx(f1_score(targets, predicted, average="macro"))
    assert figures["top5"] == pytest.approx(top_k_accuracy_score(targets, probabilities, k=5))
    clipped = np.maximum(probabilities, 1e-7).astype(np.float64)
    expected = log_loss(targets, clipped / clipped.sum(axis=1, keepdims=True))
    assert figures["log_loss"] == pytest.approx(expected, rel=1e-4)


def test_calibrated_probabilities_have_almost_no_calibration_error() -> None:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(4), 20_000).astype(np.float32)
    targets = np.array([random.choice(4, p=row / row.sum()) for row in probabilities.astype(np.float64)])
    assert calibration_error(probabilities, targets) < 0.02


def test_always_certain_and_half_right_is_off_by_a_half() -> None:
    certain = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    assert calibration_error(certain, np.array([0, 1])) == pytest.approx(0.5)


def test_a_certain_mistake_costs_much_but_not_infinity() -> None:
    assert 10 < measure(np.array([[1.0, 0.0]], np.float32), np.array([1]))["log_loss"] < 20


def test_equal_probabilities_are_no_top_five() -> None:
    flat = np.full((6, 6), 1 / 6, np.float32)
    assert measure(flat, np.arange(6))["top5"] == pytest.approx(5 / 6)


def test_each_data_set_and_category_gets_its_own_row() -> None:
    probabilities, targets = sample()
    groups = ["odd" if row % 2 else "even" for row in range(500)]
    assert [row["n"] for row in measure_by(probabilities, targets, groups).values()] == [250, 250]
    labels = [f"category-{column}" for column in range(8)]
    classes = measure_classes(probabilities, targets, labels)
    assert sum(row["n"] for row in classes.values()) == 500
    recalls = [row["accuracy"] * row["n"] for row in classes.values()]
    assert sum(recalls) / 500 == pytest.approx(measure(probabilities, targets)["accuracy"])


def test_a_table_shows_shares_in_per_cent() -> None:
    figures = {"shop": {"n": 3, "accuracy": 0.5, "log_loss": 1.2345}}
    assert table(figures, "set").splitlines()[-1] == "| shop | 3 | 50.0 | 1.234 |"


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ValueError):
        measure(np.empty((0, 3), np.float32), np.empty(0, np.int64))
