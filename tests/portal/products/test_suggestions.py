import pytest

from classifier.models import Prediction
from portal.products.suggestions import ArrangedSuggestions


def prediction(*probabilities: float, calibrated: bool = True) -> Prediction:
    rows = [{"slug": f"c{n}", "category": f"C{n}", "probability": p} for n, p in enumerate(probabilities)]
    return Prediction(top5=rows, ensemble={"calibrated": calibrated})


def slugs(rows: list[dict[str, object]]) -> list[object]:
    return [row["slug"] for row in rows]


def test_a_likely_suggestion_can_be_accepted_with_one_tap_and_hardly_likely_ones_are_folded_away() -> None:
    arranged = ArrangedSuggestions.of(prediction(0.9, 0.05, 0.02, 0.009, 0.001), is_answered=False)
    assert arranged.best and arranged.best["slug"] == "c0"
    assert (slugs(arranged.rows), slugs(arranged.unlikely)) == (["c1", "c2"], ["c3", "c4"])


@pytest.mark.parametrize(("probability", "is_answered"), [(0.4, False), (0.9, True)])
def test_no_suggestion_stands_out_when_the_models_are_not_sure_or_the_seller_changes_the_answer(
    probability: float, is_answered: bool
) -> None:
    arranged = ArrangedSuggestions.of(prediction(probability, 0.05, 0.001), is_answered=is_answered)
    assert arranged.best is None
    assert (slugs(arranged.rows), slugs(arranged.unlikely)) == (["c0", "c1"], ["c2"])


def test_suggestions_without_calibrated_probabilities_are_all_rows() -> None:
    arranged = ArrangedSuggestions.of(prediction(0.9, 0.001, calibrated=False), is_answered=False)
    assert (arranged.best, slugs(arranged.rows), arranged.unlikely) == (None, ["c0", "c1"], [])


def test_a_prediction_without_a_result_has_no_suggestions() -> None:
    assert ArrangedSuggestions.of(Prediction(), is_answered=False) == ArrangedSuggestions(None, [], [])
