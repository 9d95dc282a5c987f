import numpy as np
import pytest

from feedback.statistics.review_priority import order_for_review, select_random_share

NAN = np.nan


def test_the_order_holds_every_row_once_with_its_reason() -> None:
    ids = [f"id {row}" for row in range(500)]
    rng = np.random.default_rng(0)
    errors, doubt = rng.random(500), rng.random(500)
    errors[10:] = NAN
    order = order_for_review(ids, {"label error": errors, "doubt": doubt}, random_share=0.1)
    assert sorted(place.row for place in order) == list(range(500))
    drawn = select_random_share(ids, 0.1)
    assert {place.row for place in order if place.reason == "random"} == set(np.flatnonzero(drawn))
    assert sum(place.reason == "random" for place in order[:200]) == 20
    aimed = [place for place in order if place.reason != "random"]
    surest = next(row for row in np.argsort(-np.where(np.isnan(errors), -1, errors)) if not drawn[row])
    assert (aimed[0].row, aimed[0].reason) == (surest, "label error")


def test_the_random_share_depends_on_ids_and_not_on_scores() -> None:
    ids = [f"id {row}" for row in range(20_000)]
    assert select_random_share(ids, 0.1).mean() == pytest.approx(0.1, abs=0.01)
    assert not select_random_share(ids, 0.0).any()
    assert select_random_share(ids, 1.0).all()
    high = {"doubt": np.arange(300.0)}
    low = {"doubt": -np.arange(300.0)}
    first, second = (
        [place.row for place in order_for_review(ids[:300], scores) if place.reason == "random"]
        for scores in (high, low)
    )
    assert first == second


def test_an_order_without_rows_and_one_without_scores() -> None:
    assert order_for_review([], {}) == []
    assert len(order_for_review(["a", "b"], {}, random_share=1.0)) == 2
    assert len(order_for_review(["a", "b"], {"x": np.array([NAN, NAN])}, random_share=0.0)) == 2
    with pytest.raises(ValueError, match="random share"):
        order_for_review(["a"], {}, random_share=1.5)
    with pytest.raises(ValueError, match="each row"):
        order_for_review(["a"], {"x": np.zeros(2)})
