"""The picker of categories on a product's page, as the server answers it."""

import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from classifier.models import Category, CategorySearchTerm, Prediction
from portal.models import Product, User
from portal.products import category_picker, services

HTMX = {"HX-Request": "true"}
TOP5 = [
    {"category": "Toys & Games", "slug": "toys-games", "probability": 0.6},
    {"category": "Beauty", "slug": "beauty", "probability": 0.2},
]


@pytest.fixture
def product(seller: User) -> Product:
    return list_product(seller, "Mystery")


def list_product(seller: User, title: str) -> Product:
    """List a product whose suggestions are there."""
    product = services.submit_product(seller=seller, title=title)
    probabilities = {row["slug"]: row["probability"] for row in TOP5}
    Prediction.objects.filter(product=product).update(state="done", top5=TOP5, probabilities=probabilities)
    return Product.objects.get(pk=product.pk)


def search(browser: Client, product: Product, query: str) -> Any:
    address = reverse("category_search")
    return browser.get(address, {"product": str(product.pk), "q": query}, headers=HTMX).content.decode()


def rows(page: str) -> list[str]:
    """Return what the buttons of the picker say."""
    buttons = re.findall(r'<button class="picker-item".*?</button>', page, re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", "", button).replace("&amp;", "&").split()) for button in buttons]


def test_a_search_lists_categories_and_says_by_which_word_they_were_found(browser: Client, product: Product) -> None:
    page = search(browser, product, "bicycle lock")
    assert rows(page) == ["Sports & Outdoors — bicycle lock"]
    assert 'data-announce="1 category found"' in page and 'value="sports-outdoors"' in page
    assert rows(search(browser, product, "Sports & Outdoors")) == ["Sports & Outdoors"]


def test_of_equal_categories_the_likeliest_for_the_product_comes_first(browser: Client, product: Product) -> None:
    for slug in ("automotive", "beauty", "toys-games"):
        CategorySearchTerm.objects.create(category=Category.objects.get(slug=slug), term="sporran")
    expected = ["Toys & Games — sporran", "Beauty — sporran", "Automotive — sporran"]
    assert rows(search(browser, product, "sporran")) == expected
    Prediction.objects.update(probabilities={})  # as the archive leaves it
    assert rows(search(browser, product, "sporran")) == expected


def test_a_corrected_search_says_what_was_searched_for(browser: Client, product: Product) -> None:
    page = search(browser, product, "bycicle")
    assert rows(page)[0] == "Sports & Outdoors — bicycle"
    assert "Nothing matches “<bdi>bycicle</bdi>”. These match “<bdi>bicycle</bdi>”:" in page


def test_what_nothing_matches_can_be_asked_for(browser: Client, product: Product) -> None:
    page = search(browser, product, "kayak paddle")
    assert "No category matches “<bdi>kayak paddle</bdi>”. Ask for it:" in page
    assert 'data-wish="kayak paddle"' in page and rows(page) == []
    assert 'data-wish=""' in search(browser, product, "bike")


def test_without_a_query_the_recent_categories_come_before_all(
    browser: Client, seller: User, other_seller: User, product: Product
) -> None:
    for slug in ("beauty", "automotive", "beauty"):
        other = list_product(seller, slug)
        services.record_answer(prediction=other.prediction, category=Category.objects.get(slug=slug))
    theirs = list_product(other_seller, "Theirs")
    services.record_answer(prediction=theirs.prediction, category=Category.objects.get(slug="electronics"))
    Category.objects.filter(slug="automotive").update(is_active=False)
    everything = list(Category.objects.active().values_list("name", flat=True))
    page = search(browser, product, "  ")
    assert rows(page) == ["Beauty", *everything]
    assert page.index("Chosen recently") < page.index("All categories")
    assert 'data-announce="All 17 categories"' in page


def test_long_lists_are_cut_and_say_so(browser: Client, product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(category_picker, "MOST_LISTED", 3)
    monkeypatch.setattr(category_picker, "MOST_FOUND", 2)
    assert "The first 3 of 18 categories." in search(browser, product, "")
    page = search(browser, product, "toy")
    assert len(rows(page)) == 2 and "The first 2 of 4 categories." in page


def test_without_script_the_search_shows_the_products_page_with_the_results(browser: Client, product: Product) -> None:
    page = browser.get(product.get_absolute_url(), {"q": "bicycle lock", "list": "state=needs_answer"}).content.decode()
    assert rows(page) == ["Sports & Outdoors — bicycle lock"]
    assert re.search(r'<details class="fold others"[^>]* open>', page)
    assert 'name="q" value="bicycle lock"' in page and 'name="list" value="state=needs_answer"' in page
    page = browser.get(product.get_absolute_url(), {"q": "kayak paddle"}).content.decode()
    assert re.search(r'name="wish"[^>]* value="kayak paddle"', page)
    answer = browser.get(reverse("category_search"), {"product": str(product.pk), "q": "bike"})
    assert answer.url == f"{product.get_absolute_url()}?q=bike"  # type: ignore[attr-defined]


def test_a_wish_of_the_seller_is_not_overwritten(browser: Client, product: Product) -> None:
    services.record_answer(prediction=product.prediction, category=None, wish="Astrolabes")
    page = browser.get(product.get_absolute_url(), {"q": "kayak paddle"}).content.decode()
    assert re.search(r'name="wish"[^>]* value="Astrolabes"', page)


@pytest.mark.parametrize(
    "query", ["<script>alert(1)</script>", "'\"><b>", "\\", "\0", "%", "x" * 10_000, "{{ 7 }}", "💥"]
)
def test_hostile_queries_come_back_unharmed(browser: Client, product: Product, query: str) -> None:
    page = search(browser, product, query)
    assert "<script" not in page and "<b>" not in page
    assert browser.get(product.get_absolute_url(), {"q": query}).status_code == 200


def test_only_the_owner_searches_for_a_product(browser: Client, other_seller: User, product: Product) -> None:
    theirs = list_product(other_seller, "Theirs")
    for key in (theirs.pk, uuid.uuid4(), "nonsense", ""):
        answer = browser.get(reverse("category_search"), {"product": str(key), "q": "bike"}, headers=HTMX)
        assert answer.status_code == 404
    browser.logout()
    answer = browser.get(reverse("category_search"), {"product": str(product.pk), "q": "bike"}, headers=HTMX)
    assert answer.status_code == 302 and "login" in answer.url  # type: ignore[attr-defined]
