"""The picker of categories in a real browser, with the keyboard and where the server fails."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, Route, expect, sync_playwright

from classifier.models import Category
from portal.models import Product, User
from portal.products import services
from tests.support.accounts import logged_in_client
from tests.support.browser import CHROMIUM_FLAGS, assert_no_sideways_scroll, chromium_path

SEARCH = re.compile(r"/categories/search/")


@pytest.fixture
def product(seller: User, make_product: Callable[..., Product], address: str) -> Product:
    other = make_product(seller, title="A lipstick")
    services.record_answer(prediction=other.prediction, category=Category.objects.get(slug="beauty"))
    return make_product(seller)


@pytest.fixture
def page(seller: User, product: Product, address: str) -> Iterator[Page]:
    """The product's page, with the picker open."""
    session = logged_in_client(seller).cookies["sessionid"].value
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        page = browser.new_context(base_url=address, viewport={"width": 390, "height": 844}).new_page()
        page.context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
        page.goto(product.get_absolute_url())
        page.get_by_text("None of these", exact=True).click()
        yield page
        browser.close()


def field(page: Page) -> Locator:
    return page.get_by_label("Search all categories")


def wish(page: Page) -> Locator:
    return page.get_by_label("Which category is missing?")


def items(page: Page) -> Locator:
    return page.locator(".picker-item")


def test_a_category_is_found_by_another_word_and_chosen_with_the_keyboard(page: Page) -> None:
    expect(items(page).first).to_have_text("Beauty")  # the recent one
    expect(field(page)).to_be_focused()
    page.keyboard.type("bike")
    expect(items(page).first).to_have_text("Sports & Outdoors — bike")
    expect(page.locator("#live")).to_have_text(re.compile(r"^\d+ categories found$"))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(items(page).nth(1)).to_be_focused()
    page.keyboard.press("Escape")
    expect(field(page)).to_be_focused()
    assert_no_sideways_scroll(page)
    page.keyboard.press("Enter")
    expect(page.locator(".answered-name")).to_have_text("Sports & Outdoors")


def test_what_was_searched_in_vain_becomes_the_wish_unless_the_seller_wrote_one(page: Page) -> None:
    field(page).fill("kayak paddle")
    expect(page.get_by_text("No category matches “kayak paddle”. Ask for it:")).to_be_visible()
    expect(wish(page)).to_have_value("kayak paddle")
    field(page).fill("bike")
    expect(items(page).first).to_have_text("Sports & Outdoors — bike")
    expect(wish(page)).to_have_value("")
    wish(page).fill("Paddles")
    field(page).fill("kayak paddle")
    expect(page.get_by_text("No category matches “kayak paddle”. Ask for it:")).to_be_visible()
    expect(wish(page)).to_have_value("Paddles")
    page.get_by_role("button", name="None of these fits").click()
    expect(page.get_by_text("You asked for: Paddles")).to_be_visible()


def test_a_search_that_fails_says_so_and_leaves_the_list(page: Page) -> None:
    count = items(page).count()
    problem = page.get_by_text("The search doesn’t answer just now")
    for fail in (lambda route: route.abort(), lambda route: route.fulfill(status=500, body="")):
        page.route(SEARCH, fail)
        field(page).fill("bike")
        expect(problem).to_be_visible()
        assert items(page).count() == count
        page.unroute(SEARCH)
        field(page).fill("")
        expect(problem).to_be_hidden()


def test_enter_chooses_nothing_from_a_list_that_is_about_to_change(page: Page) -> None:
    waiting: list[Route] = []
    page.route(SEARCH, lambda route: waiting.append(route))
    field(page).press_sequentially("bike")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Still searching")).to_be_visible()
    expect(page.locator(".answered-name")).to_have_count(0)
    waiting[-1].continue_()  # it has replaced the others
    expect(items(page).first).to_have_text("Sports & Outdoors — bike")
    page.keyboard.press("Enter")
    expect(page.locator(".answered-name")).to_have_text("Sports & Outdoors")
