import numpy as np
import pytest

from classifier.ensemble import Array, align, combine, top_k


def rows(*values: list[float]) -> Array:
    return np.array(values, np.float32)


def test_the_mean_is_weighted_by_accuracy() -> None:
    combined = combine(rows([1.0, 0.0]), rows([0.0, 1.0]), text_weight=0.9, image_weight=0.3)
    assert combined == pytest.approx(rows([0.75, 0.25]))


def test_rows_sum_to_one_and_stay_float32() -> None:
    random = np.random.default_rng(0)
    text, image = (random.dirichlet(np.ones(18), 50).astype(np.float32) for _ in range(2))
    combined = combine(text, image, text_weight=0.83, image_weight=0.61)
    assert combined.dtype == np.float32
    assert combined.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-6)


def test_one_side_missing_leaves_the_other_as_it_is() -> None:
    alone = rows([0.2, 0.8])
    assert combine(alone, None, text_weight=0.9, image_weight=0.1) == pytest.approx(alone)
    assert combine(None, alone, text_weight=0.9, image_weight=0.1) == pytest.approx(alone)


def test_equal_opinions_are_kept_whatever_the_weights() -> None:
    same = rows([0.1, 0.2, 0.7])
    assert combine(same, same, text_weight=1e-300, image_weight=1e300) == pytest.approx(same)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_an_unusable_weight_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="image_weight"):
        combine(rows([1.0, 0.0]), rows([1.0, 0.0]), text_weight=1.0, image_weight=weight)


@pytest.mark.parametrize(
    ("text", "image"),
    [
        (None, None),
        (rows([1.0, 0.0]), rows([1.0, 0.0, 0.0])),
        (rows([1.0, 0.0]), rows([1.0, 0.0], [0.0, 1.0])),
        (np.array([1.0, 0.0], np.float32), None),
        (np.empty((0, 2), np.float32), None),
        (rows([0.0, 0.0]), None),
        (rows([np.nan, 1.0]), None),
        (rows([-0.5, 1.5]), None),
    ],
)
def test_what_are_not_probabilities_is_refused(text: Array | None, image: Array | None) -> None:
    with pytest.raises(ValueError):
        combine(text, image, text_weight=1.0, image_weight=1.0)


def test_columns_move_to_the_order_of_the_categories() -> None:
    aligned = align(rows([0.7, 0.3]), ["toys", "beauty"], ["beauty", "new", "toys"])
    assert aligned == pytest.approx(rows([0.3, 0.0, 0.7]))


def test_the_share_of_a_category_that_is_gone_goes_to_the_rest() -> None:
    aligned = align(rows([0.5, 0.4, 0.1]), ["gone", "toys", "beauty"], ["beauty", "toys"])
    assert aligned == pytest.approx(rows([0.2, 0.8]))


@pytest.mark.parametrize(
    ("labels", "categories"),
    [(["a"], ["a", "b"]), (["a", "a"], ["a", "b"]), (["a", "b"], ["a", "a"]), (["a", "b"], ["c"])],
)
def test_labels_that_do_not_fit_are_refused(labels: list[str], categories: list[str]) -> None:
    with pytest.raises(ValueError):
        align(rows([0.5, 0.5]), labels, categories)


def test_the_likeliest_come_first_and_ties_keep_the_order_of_labels() -> None:
    row = rows([0.2, 0.4, 0.2, 0.2])[0]
    assert [name for name, _ in top_k(row, ["d", "a", "c", "b"], k=3)] == ["a", "d", "c"]


def test_fewer_labels_than_k_gives_all_of_them() -> None:
    assert top_k(rows([0.25, 0.75])[0], ["a", "b"]) == [("b", 0.75), ("a", 0.25)]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError):
        top_k(rows([0.25, 0.75])[0], ["a"])
    with pytest.raises(ValueError):
        top_k(rows([0.25, 0.75])[0], ["a", "b"], k=0)


def test_a_temperature_below_one_makes_the_mean_surer_and_keeps_its_order() -> None:
    text, image = np.array([[0.6, 0.3, 0.1]], np.float32), np.array([[0.5, 0.1, 0.4]], np.float32)
    plain = combine(text, image, text_weight=0.8, image_weight=0.5)
    sharp = combine(text, image, text_weight=0.8, image_weight=0.5, temperature=0.5)
    assert sharp[0] == pytest.approx(plain[0] ** 2 / (plain[0] ** 2).sum(), abs=1e-6)
    assert list(sharp[0].argsort()) == list(plain[0].argsort())
    assert combine(text, None, text_weight=0.8, image_weight=0.5, temperature=0.5)[0] == pytest.approx(text[0])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    row = np.array([[0.5, 0.5]], np.float32)
    with pytest.raises(ValueError, match="temperature"):
        combine(row, row, text_weight=1, image_weight=1, temperature=temperature)


def test_a_tiny_temperature_underflows_no_row() -> None:
    row = np.full((1, 50), 0.02, np.float32)
    assert combine(row, row, text_weight=1, image_weight=1, temperature=0.01).sum() == pytest.approx(1)
