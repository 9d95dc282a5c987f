"""What a seller's list shows, page by page, whatever is asked of it."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from classifier.models import Category, Prediction
from feedback.models import Feedback
from portal.models import Product, User
from portal.products import paging, services

State = Product.State


@pytest.fixture
def shown(browser: Client) -> Callable[..., list[str]]:
    """Return the titles on a page of the list."""
    return lambda **query: [product.title for product in browser.get(reverse("products"), query).context["page"]]


def list_products(seller: User, *titles: str, description: str = "", sku: str = "") -> list[Product]:
    """List products a minute apart, the last one newest, with answers that are there already."""
    start = timezone.now() - timedelta(days=1)
    products = []
    for number, title in enumerate(titles):
        product = services.submit_product(seller=seller, title=title, description=description, sku=sku)
        Product.objects.filter(pk=product.pk).update(created_at=start + timedelta(minutes=number))
        products.append(product)
    answer = {"state": Prediction.State.DONE, "probabilities": {"beauty": 1.0}}
    top5 = [{"category": "Beauty", "slug": "beauty", "probability": 1.0}]
    Prediction.objects.filter(product__in=products).update(**answer, top5=top5)
    return products


def pages(shown: Callable[..., list[str]], count: int, **query: str) -> Iterator[list[str]]:
    return (shown(page=str(number), **query) for number in range(1, count + 1))


@pytest.mark.parametrize("sort", ["newest", "oldest", "title"])
def test_pages_show_each_product_once_and_in_order_to_the_last(
    seller: User, shown: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 3)
    titles = [f"Mug {number}" for number in range(8)]
    list_products(seller, *titles)
    first, second, last = pages(shown, 3, sort=sort)
    expected = titles[::-1] if sort == "newest" else titles
    assert [first, second, last] == [expected[:3], expected[3:6], expected[6:]]
    assert shown(page="99", sort=sort) == last


def test_products_of_one_moment_have_one_order_on_all_pages(
    seller: User, shown: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    products = list_products(seller, *(f"Mug {number}" for number in range(6)))
    Product.objects.update(created_at=timezone.now())
    by_id = [product.title for product in sorted(products, key=lambda product: product.pk)]
    assert [title for page in pages(shown, 3) for title in page] == by_id
    assert [title for page in pages(shown, 3, sort="oldest") for title in page] == by_id[::-1]


def test_each_state_finds_its_products_and_no_other_sellers(
    seller: User, other_seller: User, shown: Callable[..., list[str]], api: APIClient
) -> None:
    products = dict(zip(State, list_products(seller, *(state.value for state in State)), strict=True))
    list_products(other_seller, *(state.value for state in State))
    for state, prediction_state in ((State.WAITING, "running"), (State.FAILED, "failed")):
        Prediction.objects.filter(product=products[state]).update(state=prediction_state)
    services.record_answer(
        prediction=_prediction(products[State.CATEGORISED]), category=Category.objects.get(slug="beauty")
    )
    services.record_answer(prediction=_prediction(products[State.NO_CATEGORY]), category=None, wish="Astrolabes")
    for state in State:
        assert shown(state=state.value) == [state.value]
        (listed,) = api.get("/api/v1/products", {"state": state.value}).json()["results"]
        assert listed["title"] == listed["state"] == state.value
        assert Product.objects.get(pk=products[state].pk).state == state
    assert shown(state="categorised", category="beauty") == ["categorised"]
    assert shown(state="needs_answer", category="beauty") == []


@pytest.mark.parametrize(
    ("former", "name"), [("open", "needs_answer"), ("shelved", "categorised"), ("homeless", "no_category")]
)
def test_filters_accept_the_earlier_name_of_a_state(
    seller: User, shown: Callable[..., list[str]], api: APIClient, former: str, name: str
) -> None:
    products = dict(zip(State, list_products(seller, *(state.value for state in State)), strict=True))
    services.record_answer(prediction=_prediction(products[State.CATEGORISED]), category=Category.objects.first())
    services.record_answer(prediction=_prediction(products[State.NO_CATEGORY]), category=None)
    assert name in shown(state=former)
    assert api.get("/api/v1/products", {"state": former}).json()["results"][0]["state"] == name


def test_an_answer_that_is_taken_back_moves_a_product_between_states(
    seller: User, shown: Callable[..., list[str]]
) -> None:
    (mug,) = list_products(seller, "Mug")
    services.record_answer(prediction=_prediction(mug), category=Category.objects.get(slug="beauty"))
    services.record_answer(prediction=_prediction(mug), category=None)
    assert (shown(state="categorised"), shown(state="no_category")) == ([], ["Mug"])
    assert Feedback.objects.count() == 1


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("blue", True),
        ("BLUE steel", True),  # any order and case, over all three fields
        ("kettle whist", True),  # a word is found by its beginning
        ("ettle", False),  # and not by its middle
        ("blue red", False),
        ("12-77", True),  # pieces of an article number, as they are written or apart
        ("ab 77x", True),
        ("red/blue", False),
        ("Jürgen's", True),
        ("Jürgen’s", True),
        ("steel % blue", True),  # signs that are no words are passed over
        ("%", False),
        ("'):* | !", False),
        ("\\", False),
        ("чай", True),
        ("x" * 190, False),
    ],
)
def test_a_search_finds_products_by_the_beginnings_of_their_words(
    seller: User, shown: Callable[..., list[str]], api: APIClient, words: str, found: bool
) -> None:
    list_products(seller, "Jürgen's steel/blue Kettle", description="A whistling one, for чайник.", sku="AB-12-77X.4")
    assert len(shown(q=words)) == found
    assert len(api.get("/api/v1/products", {"q": words}).json()["results"]) == found


def test_a_search_says_when_it_found_more_than_it_counts(
    browser: Client, seller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    monkeypatch.setattr(paging, "MOST_FOUND", 4)
    list_products(seller, *(f"Mug {number}" for number in range(5)))
    page = browser.get(reverse("products"), {"q": "mug", "page": "9"})
    assert "More than 4 products found" in page.content.decode()
    assert [product.title for product in page.context["page"]] == ["Mug 2", "Mug 1"]
    assert "5 products found" in browser.get(reverse("products"), {"state": "open"}).content.decode()
    Product.objects.filter(title="Mug 0").delete()
    page = browser.get(reverse("products"), {"q": "mug"})
    assert "4 products found" in page.content.decode() and "More than" not in page.content.decode()


@pytest.mark.parametrize("query", [{}, {"state": "open"}, {"q": "mug"}, {"page": "9"}])
def test_a_list_reads_whole_rows_for_one_page_only(
    browser: Client, seller: User, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE", 2)
    list_products(seller, *(f"Mug {number}" for number in range(5)))
    with CaptureQueriesContext(connection) as queries:
        browser.get(reverse("products"), query)
    wide = [each["sql"] for each in queries if '"classifier_prediction"."top5"' in each["sql"]]
    assert len(wide) == 1
    assert "OFFSET" not in wide[0] and '"portal_product"."id" IN (' in wide[0]


def _prediction(product: Product) -> Prediction:
    return Prediction.objects.get(product=product)


def test_the_way_back_from_a_product_keeps_the_filter_and_the_page(seller: User, browser: Client) -> None:
    [product] = list_products(seller, "Blue mug & saucer")
    page = browser.get(reverse("products"), {"q": "mug", "sort": "oldest", "page": "1", "utm": "x"}).content.decode()
    [link] = re.findall(rf'href="({product.get_absolute_url()}\?[^"]*)"', page)
    back = 'href="/products/?q=mug&amp;sort=oldest&amp;page=1"'
    assert back in browser.get(unescape(link)).content.decode()
    answered = browser.post(unescape(link).replace("/?", "/answer/?"), {"category": "beauty"})
    assert answered.url == unescape(link)  # type: ignore[attr-defined]
    assert back in browser.get(answered.url).content.decode()  # type: ignore[attr-defined]


def test_the_way_back_leads_only_to_the_list(seller: User, browser: Client) -> None:
    [product] = list_products(seller, "Mug")
    page = browser.get(product.get_absolute_url(), {"list": "https://elsewhere.example/?next=//x&q=mug"})
    assert 'href="/products/?q=mug"' in page.content.decode() and "elsewhere" not in page.content.decode()


def test_an_answer_leads_to_the_next_product_that_needs_one(seller: User, other_seller: User, browser: Client) -> None:
    list_products(other_seller, "Another seller's")
    old, middle, new = list_products(seller, "Old", "Middle", "New")
    browser.post(reverse("product_answer", args=[middle.pk]), {"category": "beauty"})
    page = browser.get(middle.get_absolute_url()).content.decode()
    assert "Next product that needs your answer" in page and old.get_absolute_url() in page
    browser.post(reverse("product_answer", args=[old.pk]), {"category": "beauty"})
    assert new.get_absolute_url() in browser.get(old.get_absolute_url()).content.decode()  # none is left below
    browser.post(reverse("product_answer", args=[new.pk]), {"category": ""})
    assert "Next product" not in browser.get(new.get_absolute_url()).content.decode()
