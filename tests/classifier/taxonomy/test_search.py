"""Finding categories by names, aliases and search terms."""

import pytest

from classifier.models import Category, CategoryAlias, CategorySearchTerm
from classifier.services import load_categories
from classifier.taxonomy.search import find_categories

pytestmark = pytest.mark.django_db


def found(text: str, **more: object) -> list[tuple[str, str | None]]:
    return [(each.slug, each.found_as) for each in find_categories(text, limit=50, **more).categories]  # type: ignore[arg-type]


def add_category(slug: str, name: str, *terms: str) -> Category:
    category = Category.objects.create(slug=slug, name=name)
    CategorySearchTerm.objects.bulk_create(CategorySearchTerm(category=category, term=term) for term in terms)
    return category


@pytest.mark.parametrize(
    ("text", "slug", "found_as"),
    [
        ("bike", "sports-outdoors", "bike"),
        ("bicycles", "sports-outdoors", "bicycle"),
        ("Bicycle lock", "sports-outdoors", "bicycle lock"),
        ("laptop", "electronics", "laptop"),
        ("LAPTOPS", "electronics", "laptop"),
        ("guitar", "musical-instruments", "guitar"),
        ("guit", "musical-instruments", "guitar"),
        ("toys and games", "toys-games", None),
        ("toys & games", "toys-games", None),
        ("all beauty", "beauty", "All Beauty"),
        ("bycicle", "sports-outdoors", "bicycle"),
        ("labtop", "electronics", "laptop"),
        ("bike lihgt", "sports-outdoors", "bike light"),
    ],
)
def test_what_sellers_call_their_products_leads_to_the_category_that_comes_with_aisle(
    text: str, slug: str, found_as: str | None
) -> None:
    assert found(text)[0] == (slug, found_as)


@pytest.mark.parametrize(
    "text", ["", "  ", "&", "'):* | !", "\\", "%", "\0", "💥", "kayak paddle", "qqqq", "x" * 10_000]
)
def test_a_text_without_a_known_word_finds_nothing(text: str) -> None:
    result = find_categories(text, limit=50)
    assert (result.categories, result.total) == ([], 0) or (result.categories, result.total) == ((), 0)


def test_accents_and_case_are_folded_in_names_and_in_what_is_typed() -> None:
    add_category("cafe", "Café-Zubehör", "Straßenkreide", "Łyżka", "чайник", "急须")
    for text in ("café zubehör", "CAFE ZUBEHOR", "cafe", "strassenkreide", "lyzka", "Łyżk", "ЧАЙНИКИ", "чайн", "急"):
        assert found(text)[0][0] == "cafe", text


def test_exact_names_come_before_exact_terms_and_these_before_beginnings() -> None:
    add_category("menhir-pins", "Menhir Pins")
    add_category("stones", "Standing Stones", "menhir")
    add_category("hire", "Hire", "the best menhir of all")
    add_category("bags", "Bags", "menhir bags")
    add_category("menhirs", "Menhirs")
    assert [slug for slug, _found_as in found("menhir")] == ["menhirs", "stones", "menhir-pins", "bags", "hire"]


def test_categories_of_one_place_are_ordered_by_what_the_models_say() -> None:
    add_category("first", "Menhirs first")
    add_category("second", "Menhirs second")
    assert [slug for slug, _found_as in found("menhirs")] == ["first", "second"]
    probabilities = {"second": 0.3, "first": 0.1, "gone": 0.6}
    assert [slug for slug, _found_as in found("menhirs", probabilities=probabilities)] == ["second", "first"]


def test_all_words_must_be_in_one_name_or_term() -> None:
    add_category("menhirs", "Menhirs", "sporran chain", "tartan cloth")
    assert found("chain sporran") == [("menhirs", "sporran chain")]
    assert found("sporran cloth") == []


def test_a_term_of_two_categories_finds_both_and_names_it() -> None:
    add_category("menhirs", "Menhirs", "sporran")
    add_category("bags", "Bags", "Sporran")
    assert found("sporran") == [("bags", "Sporran"), ("menhirs", "sporran")]


def test_a_category_that_is_found_by_its_name_needs_no_reason() -> None:
    menhirs = add_category("menhirs", "Menhirs", "menhir pin")
    CategoryAlias.objects.create(category=menhirs, name="Menhir")
    assert found("menhir") == [("menhirs", None)]


def test_a_renamed_category_is_found_by_its_present_name_and_a_hidden_one_not_at_all() -> None:
    menhirs = add_category("menhirs", "Menhirs", "sporran")
    Category.objects.filter(pk=menhirs.pk).update(name="Tartans")
    assert (found("menhirs"), found("tartan")) == ([], [("menhirs", None)])
    Category.objects.filter(pk=menhirs.pk).update(is_active=False)
    assert found("tartan") == found("sporran") == []


def test_a_category_that_was_merged_leads_to_the_other_one_by_its_own_names() -> None:
    menhirs, stones = add_category("menhirs", "Menhirs"), add_category("stones", "Menhirs and obelisks", "dolmen")
    Category.objects.filter(pk=menhirs.pk).update(is_active=False, redirect=stones)
    CategorySearchTerm.objects.create(category=menhirs, term="sporran")
    assert found("sporran") == [("stones", "sporran")]
    assert found("menhirs") == [("stones", None)]


def test_a_limit_leaves_the_best_and_the_whole_number() -> None:
    for number in range(4):
        add_category(f"menhirs-{number}", f"Menhirs {number}")
    result = find_categories("menhirs", limit=2)
    assert ([each.slug for each in result.categories], result.total) == (["menhirs-0", "menhirs-1"], 4)


def test_a_correction_is_named_and_known_words_are_never_corrected() -> None:
    add_category("menhirs", "Menhirs", "sporran chain")
    assert find_categories("sporan chain", limit=5).text == "sporran chain"
    assert find_categories("chains", limit=5).text == "chains"
    assert find_categories("bike sporran", limit=5).total == 0


def test_search_terms_that_staff_changed_stay_as_they_are() -> None:
    sports = Category.objects.get(slug="sports-outdoors")
    sports.search_terms.filter(term="bike").delete()
    sports.search_terms.create(term="velocipede")
    load_categories()
    terms = set(sports.search_terms.values_list("term", flat=True))
    assert "velocipede" in terms and "bike" not in terms and "bicycle" in terms


def test_categories_from_before_search_terms_get_them() -> None:
    CategorySearchTerm.objects.all().delete()
    Category.objects.update(has_starter_terms=False)
    Category.objects.get(slug="electronics").search_terms.create(term="laptop")
    load_categories()
    assert found("laptop")[0] == ("electronics", "laptop")
    assert found("bike")[0] == ("sports-outdoors", "bike")
