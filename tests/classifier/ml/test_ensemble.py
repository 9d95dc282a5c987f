import numpy as np
import pytest

from classifier.ml.ensemble import LOG_POOL, Array, Rule, align_columns, certainty, combine_probabilities, top_k


def rows(*values: list[float]) -> Array:
    return np.array(values, np.float32)


def test_the_mean_is_weighted_by_accuracy() -> None:
    combined = combine_probabilities(rows([1.0, 0.0]), rows([0.0, 1.0]), Rule(text=0.9, image=0.3))
    assert combined == pytest.approx(rows([0.75, 0.25]))


def test_rows_sum_to_one_and_stay_float32() -> None:
    random = np.random.default_rng(0)
    text, image = (random.dirichlet(np.ones(18), 50).astype(np.float32) for _ in range(2))
    combined = combine_probabilities(text, image, Rule(text=0.83, image=0.61))
    assert combined.dtype == np.float32
    assert combined.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-6)


def test_a_single_model_s_probabilities_are_unchanged() -> None:
    alone = rows([0.2, 0.8])
    assert combine_probabilities(alone, None, Rule(text=0.9, image=0.1)) == pytest.approx(alone)
    assert combine_probabilities(None, alone, Rule(text=0.9, image=0.1)) == pytest.approx(alone)


def test_equal_probabilities_are_kept_for_any_weights() -> None:
    same = rows([0.1, 0.2, 0.7])
    assert combine_probabilities(same, same, Rule(text=1e-300, image=1e300)) == pytest.approx(same)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_an_unusable_weight_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="image"):
        Rule(text=1.0, image=weight)


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
def test_invalid_probabilities_are_refused(text: Array | None, image: Array | None) -> None:
    with pytest.raises(ValueError):
        combine_probabilities(text, image, Rule(text=1.0, image=1.0))


def test_columns_move_to_the_order_of_the_categories() -> None:
    aligned = align_columns(rows([0.7, 0.3]), ["toys", "beauty"], ["beauty", "new", "toys"])
    assert aligned == pytest.approx(rows([0.3, 0.0, 0.7]))


def test_the_share_of_a_removed_category_goes_to_the_others() -> None:
    aligned = align_columns(rows([0.5, 0.4, 0.1]), ["gone", "toys", "beauty"], ["beauty", "toys"])
    assert aligned == pytest.approx(rows([0.2, 0.8]))


@pytest.mark.parametrize(
    ("labels", "categories"),
    [(["a"], ["a", "b"]), (["a", "a"], ["a", "b"]), (["a", "b"], ["a", "a"]), (["a", "b"], ["c"])],
)
def test_labels_that_do_not_fit_are_refused(labels: list[str], categories: list[str]) -> None:
    with pytest.raises(ValueError):
        align_columns(rows([0.5, 0.5]), labels, categories)


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


def test_a_temperature_below_one_sharpens_the_mean_and_keeps_its_order() -> None:
    text, image = np.array([[0.6, 0.3, 0.1]], np.float32), np.array([[0.5, 0.1, 0.4]], np.float32)
    plain = combine_probabilities(text, image, Rule(text=0.8, image=0.5))
    sharp = combine_probabilities(text, image, Rule(text=0.8, image=0.5, temperature=0.5))
    assert sharp[0] == pytest.approx(plain[0] ** 2 / (plain[0] ** 2).sum(), abs=1e-6)
    assert list(sharp[0].argsort()) == list(plain[0].argsort())
    assert combine_probabilities(text, None, Rule(text=0.8, image=0.5, temperature=0.5))[0] == pytest.approx(text[0])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        Rule(temperature=temperature)


def test_a_tiny_temperature_underflows_no_row() -> None:
    row = np.full((1, 50), 0.02, np.float32)
    assert combine_probabilities(row, row, Rule(text=1, image=1, temperature=0.01)).sum() == pytest.approx(1)


def test_a_log_pool_multiplies_probabilities_raised_to_their_weights() -> None:
    text, image = rows([0.6, 0.3, 0.1]), rows([0.2, 0.5, 0.3])
    pooled = combine_probabilities(text, image, Rule(LOG_POOL, text=1.2, image=0.5))
    expected = text**1.2 * image**0.5
    assert pooled == pytest.approx(expected / expected.sum(), abs=1e-6)
    assert combine_probabilities(text, image, Rule(LOG_POOL, text=1.0, image=0.0)) == pytest.approx(text, abs=1e-6)


def test_a_bias_favours_categories_by_name() -> None:
    text, image = rows([0.5, 0.5]), rows([0.5, 0.5])
    rule = Rule(LOG_POOL, text=1.0, image=1.0, bias={"toys": float(np.log(3)), "gone": 9.0})
    assert combine_probabilities(text, image, rule, ["beauty", "toys"]) == pytest.approx(rows([0.25, 0.75]), abs=1e-6)
    with pytest.raises(ValueError, match="names"):
        combine_probabilities(text, image, rule)


def test_a_gate_gives_the_more_certain_model_more_weight() -> None:
    rule = Rule(LOG_POOL, text=1.0, image=1.0, gate={"text": (1.0, 0.0), "image": (0.0, 1.0)})
    sure_text, flat = rows([0.98, 0.01, 0.01]), rows([0.3, 0.4, 0.3])
    text_weight, image_weight = rule.weights(sure_text, flat)[0]
    assert text_weight == pytest.approx(np.exp(certainty(sure_text)[0]))
    assert text_weight > image_weight
    assert (
        combine_probabilities(sure_text, flat, rule)[0, 0]
        > combine_probabilities(sure_text, flat, Rule(LOG_POOL))[0, 0]
    )


def test_a_category_that_one_model_lacks_is_decided_by_the_other() -> None:
    pooled = combine_probabilities(rows([0.5, 0.5, 0.0]), rows([0.1, 0.2, 0.7]), Rule(LOG_POOL, text=1.0, image=1.0))
    assert pooled[0].argmax() == 2
    unknown = combine_probabilities(rows([0.5, 0.5, 0.0]), rows([0.5, 0.5, 0.0]), Rule(LOG_POOL, text=1.0, image=0.0))
    assert unknown[0] == pytest.approx([0.5, 0.5, 0.0])


def test_no_model_can_veto_what_the_other_is_sure_of() -> None:
    pooled = combine_probabilities(rows([1e-30, 1.0]), rows([1.0, 1e-30]), Rule(LOG_POOL, text=1.0, image=1.0))
    assert pooled[0] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    "rule",
    [
        Rule(text=0.8, image=0.6, temperature=0.62, calibrated=True),
        Rule(LOG_POOL, text=1.1, image=0.4, calibrated=True),
        Rule(LOG_POOL, 1.1, 0.4, bias={"toys": 0.2}, gate={"text": (0.1, 0.2), "image": (0.3, 0.4)}, calibrated=True),
    ],
)
def test_a_rule_is_read_back_from_its_json(rule: Rule) -> None:
    assert Rule.from_json(rule.kind, rule.to_json(), text=0.8, image=0.6) == rule


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("accuracy-weighted", {}),
        ("accuracy-weighted", {"temperature": "warm"}),
        ("log-pool", {"text": 1.0}),
        ("log-pool", {"text": -1.0, "image": 1.0}),
        ("log-pool", {"text": 0.0, "image": 0.0}),
        ("log-pool", {"text": 1.0, "image": 1.0, "gate": {"text": [1, 2]}}),
        ("log-pool", {"text": 1.0, "image": 1.0, "bias": {"toys": float("nan")}}),
        ("stacking", {"temperature": 1.0}),
    ],
)
def test_unusable_parameters_are_refused(kind: str, parameters: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Rule.from_json(kind, parameters, text=0.8, image=0.6)
