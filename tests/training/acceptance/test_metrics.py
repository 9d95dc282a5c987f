import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, log_loss, top_k_accuracy_score

from classifier.evaluation.paired_tests import mcnemar, paired_bootstrap
from training.acceptance.metrics import (
    Probabilities,
    Targets,
    calibration_error,
    compute_metrics,
    count_confusions,
    markdown_table,
    metrics_by_category,
    metrics_by_group,
    reliability_bins,
)


def sample(size: int = 500, classes: int = 8) -> tuple[Probabilities, Targets]:
    random = np.random.default_rng(7)
    probabilities = random.dirichlet(np.full(classes, 0.4), size).astype(np.float32)
    return probabilities, random.integers(0, classes, size)


def test_the_figures_are_those_of_scikit_learn() -> None:
    probabilities, targets = sample()
    figures = compute_metrics(probabilities, targets)
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
    assert 10 < compute_metrics(np.array([[1.0, 0.0]], np.float32), np.array([1]))["log_loss"] < 20


def test_equal_probabilities_are_no_top_five() -> None:
    flat = np.full((6, 6), 1 / 6, np.float32)
    assert compute_metrics(flat, np.arange(6))["top5"] == pytest.approx(5 / 6)


def test_each_data_set_and_category_gets_its_own_row() -> None:
    probabilities, targets = sample()
    groups = ["odd" if row % 2 else "even" for row in range(500)]
    assert [row["n"] for row in metrics_by_group(probabilities, targets, groups).values()] == [250, 250]
    labels = [f"category-{column}" for column in range(8)]
    classes = metrics_by_category(probabilities, targets, labels)
    assert sum(row["n"] for row in classes.values()) == 500
    recalls = [row["accuracy"] * row["n"] for row in classes.values()]
    assert sum(recalls) / 500 == pytest.approx(compute_metrics(probabilities, targets)["accuracy"])


def test_a_table_shows_shares_in_per_cent() -> None:
    figures = {"shop": {"n": 3, "accuracy": 0.5, "log_loss": 1.2345}}
    assert markdown_table(figures, "set").splitlines()[-1] == "| shop | 3 | 50.0 | 1.234 |"


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ValueError):
        compute_metrics(np.empty((0, 3), np.float32), np.empty(0, np.int64))


def test_the_confusion_matrix_counts_every_product_once() -> None:
    probabilities, targets = sample()
    labels = [f"category-{column}" for column in range(8)]
    found = count_confusions(probabilities, targets, labels)
    assert found["labels"] == labels
    assert np.array_equal(found["matrix"], confusion_matrix(targets, probabilities.argmax(axis=1)))


def test_the_reliability_bins_are_those_of_the_calibration_error() -> None:
    probabilities, targets = sample()
    bins = reliability_bins(probabilities, targets)
    filled = [row for row in bins if row["count"]]
    assert sum(row["count"] for row in bins) == 500
    gaps = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in filled) / 500
    assert gaps == pytest.approx(calibration_error(probabilities, targets))
    assert {row["accuracy"] for row in bins if not row["count"]} <= {None}


def right(*counts: tuple[int, bool, bool]) -> tuple[np.ndarray, np.ndarray]:
    """Say how many products were (right by the first, right by the second)."""
    rows = [(first, second) for count, first, second in counts for _row in range(count)]
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def test_mcnemars_p_values_are_the_published_ones() -> None:
    """The example of Fagerland, Lydersen and Laake 2013, table 1: 1 and 7 discordant pairs."""
    found = mcnemar(*right((1, True, False), (7, False, True), (12, True, True)))
    assert (found.only_first, found.only_second) == (1, 7)
    assert found.exact == pytest.approx(0.0703, abs=1e-4)
    assert found.mid_p == pytest.approx(0.0391, abs=1e-4)
    assert found.second_is_worse > 0.9


def test_a_second_that_loses_what_the_first_had_is_worse() -> None:
    assert mcnemar(*right((30, True, False), (10, False, True))).second_is_worse < 0.01
    assert mcnemar(*right((10, True, False), (10, False, True))).second_is_worse == pytest.approx(0.5)
    assert mcnemar(*right((10, True, False), (10, False, True))).mid_p == pytest.approx(1 - 0.1762 / 2, abs=1e-3)
    assert mcnemar(*right((10, True, True))).second_is_worse == 1.0


def test_the_paired_bootstrap_covers_the_true_difference() -> None:
    random = np.random.default_rng(5)
    first = random.normal(1.0, 1.0, 400)
    found = paired_bootstrap(first, first + 0.2 + random.normal(0, 0.1, 400))
    assert found.low < 0.2 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)
    same = paired_bootstrap(first, first)
    assert (same.difference, same.low, same.high) == (0, 0, 0)


def test_figures_of_other_products_are_not_compared() -> None:
    with pytest.raises(ValueError):
        paired_bootstrap(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError):
        mcnemar(np.zeros(3, bool), np.zeros(4, bool))
