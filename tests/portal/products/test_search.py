"""Searching products: which words find them, and which come first."""

from collections.abc import Callable
from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from classifier.models import Category, CategoryAlias, Prediction
from portal.models import Product, User
from portal.products import services
from portal.products.search import best_matches

List = Callable[..., Product]


@pytest.fixture
def list_product(seller: User) -> List:
    """Return a function that lists a product; each is a minute newer than the one before."""
    moment = timezone.now() - timedelta(days=1)

    def list_one(
        title: str, *, description: str = "", sku: str = "", category: str = "", owner: User = seller
    ) -> Product:
        nonlocal moment
        moment += timedelta(minutes=1)
        product = services.submit_product(seller=owner, title=title, description=description, sku=sku)
        chosen = Category.objects.get(slug=category) if category else None
        Product.objects.filter(pk=product.pk).update(created_at=moment, category=chosen)
        return product

    return list_one


@pytest.fixture
def found(seller: User) -> Callable[..., list[str]]:
    """Return the titles that a search finds, the best first."""

    def find(text: str, *, limit: int = 100) -> list[str]:
        ids = best_matches(Product.objects.for_seller(seller), text, limit=limit)
        assert set(ids) == set(Product.objects.for_seller(seller).matching(text).values_list("pk", flat=True)[:limit])
        return [product.title for product in Product.objects.whole(ids)]

    return find


@pytest.mark.parametrize(
    ("title", "query"),
    [
        ("Pocket watch", "watches"),
        ("Pocket watches", "watch"),
        ("Dried berries", "berry"),
        ("Running shoes", "RUN"),
        ("Fahrrad für Kinder mit Licht und Klingel", "Fahrräder"),
        ("Fahrräder für Kinder mit Licht und Klingel", "fahrrad"),
        ("Guitarra para niños con estuche", "guitarras"),
        ("Лампа для кухни и ванной", "лампы"),
        ("Café au lait", "cafe"),
        ("Cafe au lait", "café"),
        ("Straßenkreide", "strassen"),
        ("Łódka", "lodka"),
        ("アコースティックギター", "アコース"),
        ("民谣吉他", "民谣"),
        ("Salt & pepper", "salt and pepper"),
        ("Salt pepper", "salt & pepper"),
        ("Socket M12-A.4", "m12 a"),
        ("Women's boots", "womens boot"),
    ],
)
def test_words_are_found_by_beginning_and_stem_in_the_products_language(
    list_product: List, found: Callable[..., list[str]], title: str, query: str
) -> None:
    list_product(title)
    assert found(query) == [title]


def test_a_foreign_stem_is_found_although_the_languages_are_mixed(
    list_product: List, found: Callable[..., list[str]]
) -> None:
    list_product("Bücher für die Schule und das Studium")
    list_product("Books for school")
    assert found("buch") == ["Bücher für die Schule und das Studium"]
    assert found("book") == ["Books for school"]


@pytest.mark.parametrize(
    ("query", "sku"),
    [("ab-12/77", "AB-12/77"), (" AB-12/77 ", "ab-12/77"), ("ÄÖ_1", "äö_1"), ("%%", "%%"), ("x" * 62, "X" * 62)],
)
def test_the_sku_itself_comes_first_in_any_case(
    list_product: List, found: Callable[..., list[str]], query: str, sku: str
) -> None:
    list_product("Exact", sku=sku)
    list_product(f"Named {query}")
    list_product("Longer", sku=f"{sku}-1"[:64])
    assert found(query)[0] == "Exact"


def test_title_comes_before_sku_before_category_before_description(
    list_product: List, found: Callable[..., list[str]]
) -> None:
    list_product("In the title: guitar")
    list_product("In the SKU", sku="guitar 1")
    Category.objects.filter(slug="musical-instruments").update(name="Guitars")
    list_product("In the category", category="musical-instruments")
    list_product("In the description", description="Not a guitar.")
    list_product("Nowhere")
    assert found("guitar") == ["In the title: guitar", "In the SKU", "In the category", "In the description"]


def test_of_equal_products_the_newest_comes_first_and_whole_words_before_beginnings(
    list_product: List, found: Callable[..., list[str]]
) -> None:
    for title in ("Car 1", "Car 2", "Cardigan"):
        list_product(title)
    assert found("car") == ["Car 2", "Car 1", "Cardigan"]


def test_each_word_may_be_in_another_place(list_product: List, found: Callable[..., list[str]]) -> None:
    list_product("Blue guitar", category="musical-instruments")
    list_product("Blue mug", description="With a guitar on it.")
    list_product("Red guitar")
    assert found("blue guitars") == ["Blue guitar", "Blue mug"]
    assert found("guitar instruments") == ["Blue guitar"]
    assert found("blue instruments red") == []


def test_a_category_is_found_by_its_present_name_and_its_aliases(
    list_product: List, found: Callable[..., list[str]]
) -> None:
    list_product("Yamaha FG800", category="musical-instruments")
    category = Category.objects.get(slug="musical-instruments")
    assert found("instruments") == found("Musical instrument") == ["Yamaha FG800"]
    CategoryAlias.objects.create(category=category, name="Zupfinstrumente")
    assert found("zupf") == ["Yamaha FG800"]
    Category.objects.filter(pk=category.pk).update(name="Music gear")
    assert (found("instruments"), found("gear")) == ([], ["Yamaha FG800"])
    services.record_answer(prediction=done(Product.objects.get()), category=None)
    assert found("gear") == []


def test_a_category_stands_for_those_below_it_and_those_merged_into_it(
    list_product: List, found: Callable[..., list[str]]
) -> None:
    parent = Category.objects.get(slug="musical-instruments")
    Category.objects.create(slug="lutes", name="Lutes", parent=parent)
    merged = Category.objects.get(slug="beauty")
    Category.objects.filter(pk=merged.pk).update(is_active=False, redirect=parent)
    list_product("Below", category="lutes")
    list_product("Merged", category="beauty")
    list_product("Beside", category="automotive")
    assert found("instruments") == ["Merged", "Below"]
    assert found("lutes") == ["Below"]


def test_better_matches_are_found_although_many_newer_products_match(
    list_product: List, found: Callable[..., list[str]]
) -> None:
    list_product("SKU", sku="blue mug")
    list_product("Blue mug")
    list_product("Blue", category="beauty")
    Category.objects.filter(slug="beauty").update(name="Mugs")
    for number in range(5):
        list_product(f"Plain {number}", description="A blue mug.")
    ids = best_matches(Product.objects.all(), "blue mug", limit=4)
    assert [product.title for product in Product.objects.whole(ids)] == ["SKU", "Blue mug", "Blue", "Plain 4"]


def test_only_the_given_products_are_searched(
    list_product: List, found: Callable[..., list[str]], other_seller: User, seller: User
) -> None:
    list_product("Mine mug")
    list_product("Their mug", owner=other_seller)
    trashed = list_product("Trashed mug")
    services.trash_products(products=Product.objects.filter(pk=trashed.pk))
    assert found("mug") == ["Mine mug"]


def test_a_changed_product_is_found_by_its_present_words(list_product: List, found: Callable[..., list[str]]) -> None:
    mug = list_product("Mug", sku="Q-77")
    services.edit_product(product=mug, title="Fahrräder für Kinder und mit Licht", sku="F-1")
    assert (found("mug"), found("Q-77")) == ([], [])
    assert found("fahrrad") == found("f-1") == ["Fahrräder für Kinder und mit Licht"]
    mug.refresh_from_db()
    assert mug.language == "de"


def test_products_that_are_written_in_bulk_are_found(seller: User, found: Callable[..., list[str]]) -> None:
    predictions = Prediction.objects.bulk_create(Prediction(seller=seller, title="Mug") for _ in range(2))
    Product.objects.bulk_create(Product(seller=seller, title="Mugs", prediction=each) for each in predictions)
    assert found("mug") == ["Mugs", "Mugs"]


def test_products_from_before_get_their_language_and_lexemes(
    list_product: List, found: Callable[..., list[str]]
) -> None:
    list_product("Fahrrad für Kinder mit Licht und Klingel")
    list_product("Mugs")
    Product.objects.update(lexemes=None)
    assert found("mug") == []
    migration = import_module("portal.migrations.0017_index_of_product_lexemes")
    migration.fill_lexemes(apps, None)
    assert found("mug") == ["Mugs"]
    assert found("Fahrräder") == ["Fahrrad für Kinder mit Licht und Klingel"]


@pytest.mark.parametrize(
    "query",
    [
        "'",
        "\\",
        "'):* | !",
        "a & | ! (b",
        "<-> <2>",
        '"',
        "%",
        "_",
        "~mug",
        "=mug",
        "#1",
        "x" * 10_000,
        "a " * 5_000,
        "💥",
        "\ud83d",
        "''''",
        "\\'",
    ],
)
def test_hostile_queries_find_what_they_name_or_nothing(
    list_product: List, seller: User, api: APIClient, query: str
) -> None:
    list_product("Nothing like it")
    assert best_matches(Product.objects.for_seller(seller), query, limit=10) == []
    if "\ud83d" not in query:
        for sort in ("newest", "best_match"):
            assert api.get("/api/v1/products", {"q": query, "sort": sort}).json()["results"] == []


def test_words_of_extreme_length_are_stored_and_found(list_product: List, found: Callable[..., list[str]]) -> None:
    title = "𒐫" * 300
    list_product(title, description="ß" * 5000, sku="ﷺ" * 3)
    assert found(title[:70]) in ([title], [])  # PostgreSQL may not take the signs for letters
    list_product("é" * 300)
    assert found("e" * 30) == ["é" * 300]


def test_the_best_match_is_the_usual_sort_of_a_search_and_offered_for_nothing_else(
    browser: Client, list_product: List
) -> None:
    list_product("Guitar")
    list_product("Plectrum", description="For a guitar")
    page = browser.get(reverse("products"), {"q": "guitar"})
    assert [product.title for product in page.context["page"]] == ["Guitar", "Plectrum"]
    assert '<option value="" selected>Best match first</option>' in page.content.decode()
    page = browser.get(reverse("products"), {"q": "guitar", "sort": "newest"})
    assert [product.title for product in page.context["page"]] == ["Plectrum", "Guitar"]
    assert '<option value="newest" selected>Newest first</option>' in page.content.decode()
    page = browser.get(reverse("products"), {"sort": "best"})
    assert [product.title for product in page.context["page"]] == ["Plectrum", "Guitar"]
    assert "Best match" not in page.content.decode()


def test_a_search_is_limited_to_a_state_and_a_category(browser: Client, list_product: List) -> None:
    list_product("Guitar", category="beauty")
    list_product("Guitar, unanswered")
    Prediction.objects.update(state="done", probabilities={}, top5=[])
    for query, titles in (
        ({"category": "beauty"}, ["Guitar"]),
        ({"state": "needs_answer"}, ["Guitar, unanswered"]),
        ({"state": "failed"}, []),
    ):
        page = browser.get(reverse("products"), {"q": "guitar", **query})
        assert [product.title for product in page.context["page"]] == titles


def done(product: Product) -> Prediction:
    Prediction.objects.filter(pk=product.prediction_id).update(state="done", probabilities={}, top5=[])
    return Prediction.objects.get(pk=product.prediction_id)
