"""The gate's decision, from figures alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from classifier.evaluation.category_coverage import Coverage
from classifier.evaluation.paired_tests import ProductScores, compare_paired
from classifier.evaluation.reference_set import Agreement
from classifier.models import Decision
from training.acceptance.gate import (
    AcceptanceLimits,
    HeldOutComparison,
    ReferenceComparison,
    Verdict,
    decide_on_candidate,
)

SIZE = 2_000
ALL = Coverage(offered=18)


def scored(accuracy: float, confidence: float = 0.8, size: int = SIZE, seed: int | None = None) -> ProductScores:
    """A classifier of five classes that is right at this share, the first products or random ones, always as sure."""
    right = np.arange(size) < round(accuracy * size)
    if seed is not None:
        right = np.random.default_rng(seed).permutation(right)
    return ProductScores.from_ranks(np.where(right, 0, 2), np.where(right, confidence, (1 - confidence) / 4))


def verdict(
    candidate: ProductScores | None = None,
    champion: ProductScores | None = None,
    *,
    known: np.ndarray | None = None,
    accuracy: float = 0.85,
    latency: float = 20.0,
    coverage: Coverage = ALL,
    reference: ReferenceComparison | None = None,
) -> Verdict:
    metrics: Mapping[str, Any] = {"accuracy": accuracy, "n": SIZE, "latency_ms": latency}
    test = None
    if candidate is not None and champion is not None:
        test = HeldOutComparison(champion, candidate, np.ones(len(candidate), bool) if known is None else known)  # type: ignore[arg-type]
    limits = AcceptanceLimits(minimum_accuracy=0.75, max_latency_ms=250.0)
    return decide_on_candidate(metrics, limits, coverage=coverage, test=test, reference=reference)


def reference(before: float, after: float, size: int = 320, **more: Any) -> ReferenceComparison:
    figures = compare_paired(scored(before, size=size, seed=1), scored(after, size=size, seed=2))
    return ReferenceComparison(known=figures, **more)


def test_a_good_first_model_passes_with_figures_in_words() -> None:
    found = verdict(accuracy=0.82)
    assert found.decision == Decision.PASSED
    assert found.reasons == [
        "Accuracy 82.0% on 2000 test products; at least 75.0% is required.",
        "20 ms for one product; at most 250 ms is required.",
        "It suggests 18 of 18 categories.",
    ]


def test_too_low_accuracy_and_too_slow_answers_are_rejected_and_named_first() -> None:
    found = verdict(accuracy=0.7, latency=300.0)
    assert found.decision == Decision.REJECTED
    assert found.reasons[:2] == [
        "Accuracy 70.0% on 2000 test products is below the required 75.0%.",
        "300 ms for one product is more than the allowed 250 ms.",
    ]


def test_the_champion_itself_and_a_better_one_are_not_worse() -> None:
    assert verdict(scored(0.85), scored(0.85)).decision == Decision.PASSED
    better = verdict(scored(0.88), scored(0.85))
    assert better.decision == Decision.PASSED
    assert "accuracy +3.0 points" in better.reasons[-1]
    assert better.reasons[-1].endswith("not worse.")


def test_a_significantly_worse_model_is_rejected_though_it_reaches_the_threshold() -> None:
    found = verdict(scored(0.845), scored(0.85))
    assert found.decision == Decision.REJECTED
    assert "significantly less often right" in found.reasons[0]
    assert "more than 1 point" not in found.reasons[0]


def test_a_drop_of_more_than_a_point_is_rejected_though_it_could_be_chance() -> None:
    found = verdict(scored(0.838, size=400, seed=1), scored(0.85, size=400, seed=2))
    assert found.decision == Decision.REJECTED
    assert "more than 1 point less accurate" in found.reasons[0]
    assert "significantly" not in found.reasons[0]


def test_a_model_that_is_as_often_right_but_less_honest_is_rejected() -> None:
    found = verdict(scored(0.85, confidence=0.9999), scored(0.85, confidence=0.85))
    assert found.decision == Decision.REJECTED
    assert "clearly higher log-loss" in found.reasons[0]


def test_products_of_categories_that_the_champion_lacks_decide_nothing() -> None:
    """The champion scores 0 on new categories: that hid how much worse the candidate is on the old ones."""
    known = np.arange(SIZE) < SIZE // 2
    champion = ProductScores.from_ranks(np.where(known, 0, 18), np.where(known, 0.8, 0.0))
    candidate = ProductScores.from_ranks(np.where(np.arange(SIZE) < 0.4 * SIZE, 3, 0), np.full(SIZE, 0.5))
    found = verdict(candidate, champion, known=known)
    assert candidate.correct.mean() > champion.correct.mean()
    assert found.decision == Decision.REJECTED
    assert "On 1000 test products of categories that the champion doesn't know it is right on 100.0%." in found.reasons


def test_lost_categories_hold_a_better_candidate_back_and_are_named_first() -> None:
    names = {f"slug-{n}": f"Category {n}" for n in range(10)}
    found = verdict(scored(0.95), scored(0.85), coverage=Coverage(18, missing=names, lost=names))
    assert found.decision == Decision.HELD
    assert found.reasons[0].startswith("It can't suggest 10 categories that the champion suggests: Category 0; ")
    assert "and 2 more" in found.reasons[0]
    assert found.record["coverage"] == {"offered": 18, "missing": list(names), "lost": list(names)}


def test_categories_that_no_version_suggests_hold_nothing_back() -> None:
    found = verdict(scored(0.85), scored(0.85), coverage=Coverage(18, missing={"new": "New one"}))
    assert found.decision == Decision.PASSED
    assert "Neither it nor the champion suggests New one." in found.reasons


@pytest.mark.parametrize(("after", "held"), [(0.70, False), (0.69, False), (0.68, True), (0.5, True), (0.8, False)])
def test_less_than_98_percent_of_the_champions_accuracy_on_the_reference_set_is_held(after: float, held: bool) -> None:
    found = verdict(reference=reference(0.70, after, size=400))
    assert found.decision == (Decision.HELD if held else Decision.PASSED)


def test_what_was_forgotten_of_categories_without_new_data_is_held_though_the_whole_is_better() -> None:
    lacking = compare_paired(scored(0.8, size=100), scored(0.6, size=100))
    found = verdict(reference=reference(0.7, 0.75, lacking=lacking, lacking_categories=["music", "pets"]))
    assert found.decision == Decision.HELD
    assert found.reasons[0] == (
        "It has forgotten: on 100 reference products of the 2 categories that the new data lacks, accuracy goes from "
        "80.0% to 60.0%."
    )
    assert found.record["lacking"]["categories"] == ["music", "pets"]


@pytest.mark.parametrize(("agreed", "held"), [(18, False), (16, False), (15, True)])
def test_disagreement_on_stored_products_holds_back_where_nothing_else_measures(agreed: int, held: bool) -> None:
    found = verdict(reference=ReferenceComparison(agreement=Agreement(20, agreed)))
    assert found.decision == (Decision.HELD if held else Decision.PASSED)


def test_a_category_that_nothing_measures_is_named() -> None:
    found = verdict(reference=ReferenceComparison(unmeasured=["Pet Supplies"]))
    assert found.decision == Decision.HELD
    assert "The new data lacks Pet Supplies, and too few products measure" in found.reasons[0]


def test_a_category_that_collapsed_is_held_though_all_others_gain() -> None:
    found = verdict(reference=reference(0.7, 0.8, collapsed=["Beauty"]))
    assert found.decision == Decision.HELD
    assert found.reasons[0].startswith("It has unlearnt Beauty")


def test_many_products_of_few_categories_hide_no_loss_of_the_others() -> None:
    found = verdict(reference=reference(0.7, 0.77, macro=(0.7, 0.5)))
    assert found.decision == Decision.HELD
    assert "it is less accurate than the champion" in found.reasons[0]


def test_a_candidate_that_fails_and_forgets_is_rejected() -> None:
    found = verdict(accuracy=0.5, reference=reference(0.9, 0.2))
    assert found.decision == Decision.REJECTED
    assert not any("a person may deploy it" in reason for reason in found.reasons)


def test_scores_of_different_products_are_a_mistake() -> None:
    with pytest.raises(ValueError):
        compare_paired(scored(0.8, size=10), scored(0.8, size=11))
