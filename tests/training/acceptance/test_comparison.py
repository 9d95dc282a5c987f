"""The champion and a candidate on reference products: what is compared, and what stays unmeasured."""

from collections.abc import Sequence

import pytest

from classifier.models import Category, ModelVersion, ReferenceAnswer, ReferenceProduct
from classifier.registry import deployments, traffic
from common.object_storage import StorageDown
from training.acceptance import candidate_evaluation, comparison, reference_answers
from training.acceptance.gate import ReferenceComparison

pytestmark = pytest.mark.django_db

SLUGS = ("beauty", "automotive", "pet-supplies")


def pairs(slug: str, right: Sequence[tuple[bool, bool]], *, labelled: bool = True) -> list[comparison.Pair]:
    """Return answers of champion and candidate for products of a category; unlabelled, whether they agree."""
    category = Category.objects.get(slug=slug)
    made = []
    for champion, candidate in right:
        product = ReferenceProduct(title="x", category=category if labelled else None)
        made.append(
            tuple(
                ReferenceAnswer(
                    product=product,
                    first_choice=slug if is_right else "electronics",
                    confidence=0.9,
                    probability=0.9 if is_right else 0.1,
                    rank=0 if is_right else 2,
                )
                for is_right in (champion, candidate)
            )
        )
    return made  # type: ignore[return-value]


def compare(made: list[comparison.Pair], learnt: Sequence[str] = ()) -> ReferenceComparison:
    return comparison.compare_pairs(made, known=set(SLUGS), own=set(SLUGS), learnt=set(learnt))


def test_categories_that_the_new_data_has_are_not_lacking() -> None:
    made = [pair for slug in SLUGS for pair in pairs(slug, [(True, True)] * 12)]
    found = compare(made, learnt=["beauty"])
    assert found.known and found.known.n == 36
    assert found.lacking and found.lacking.n == 24
    assert set(found.lacking_categories) == {"automotive", "pet-supplies"}
    assert not found.unmeasured
    assert not found.collapsed


def test_fewer_than_ten_products_measure_nothing() -> None:
    made = [*pairs("beauty", [(True, False)] * 9), *pairs("automotive", [(True, False)] * 9, labelled=False)]
    found = compare(made)
    assert set(found.unmeasured) == {"Beauty", "Automotive", "Pet Supplies"}
    assert found.agreement is None


def test_a_category_of_which_less_than_half_is_left_is_named() -> None:
    half = [(True, True)] * 10 + [(True, False)] * 10
    worse = [(True, True)] * 9 + [(True, False)] * 11
    assert compare([*pairs("beauty", half), *pairs("automotive", worse)]).collapsed == ["Automotive"]
    stored = [*pairs("beauty", half, labelled=False), *pairs("automotive", worse, labelled=False)]
    found = compare(stored)
    assert found.collapsed == ["Automotive"]
    assert found.agreement and (found.agreement.n, found.agreement.agreed) == (40, 19)


def test_every_category_counts_the_same_in_the_mean() -> None:
    found = compare([*pairs("beauty", [(False, True)] * 80), *pairs("automotive", [(True, False)] * 20)])
    assert found.known and found.known.accuracy.second > found.known.accuracy.first
    assert found.macro == (0.5, 0.5)


def test_a_storage_that_is_away_is_no_reason_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StorageDown("away")

    champion = ModelVersion.objects.get(modality="text")
    monkeypatch.setattr(reference_answers, "answer_products", lambda *_: [])
    monkeypatch.setattr(reference_answers, "measure_version", away)
    monkeypatch.setattr(candidate_evaluation, "load_fitted_model", lambda fitted: None)
    with pytest.raises(StorageDown):
        comparison.compare_on_reference_set(champion, None, [], learnt=[])  # type: ignore[arg-type]


def test_what_the_row_does_not_tell_of_a_champion_comes_from_its_artifact() -> None:
    champion = ModelVersion.objects.get(modality="text")
    labels = champion.labels
    ModelVersion.objects.update(labels=[])
    assert traffic.served_labels("text") == set(labels)
    narrow = ModelVersion.objects.create(
        modality="text", name="narrow", checksum="a" * 64, accuracy=0.9, labels=["beauty", "automotive"]
    )
    ModelVersion.objects.filter(pk=champion.pk).update(labels=[])
    with pytest.raises(deployments.CategoryLoss):
        deployments.refuse_category_loss(narrow)
