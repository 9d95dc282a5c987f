"""Walk through a seller's first hour in a real browser, on a phone and on a desk, over a whole running Aisle."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from benchmarks.harness.processes import wait_until
from tests.support.accounts import PASSWORD
from tests.support.browser import CHROMIUM_FLAGS, assert_no_sideways_scroll, chromium_path
from tests.support.photos import product_photo
from tests.support.stack import Stack

expect.set_options(timeout=60_000)  # a limit against hanging, not a measurement
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def stack(module_home: Path) -> Iterator[Stack]:
    stack = Stack(module_home)
    try:
        stack.start_all()
        stack.wait_for_models()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def context(request: pytest.FixtureRequest, browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=request.param, base_url=stack.address, has_touch=request.param is PHONE)
    context.set_default_timeout(60_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that fails its test on any error in its console, a refused script or style among them."""
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    unexpected = [text for text in complaints if "422" not in text]
    assert not unexpected, unexpected


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "mug.jpg"
    path.write_bytes(product_photo(size=(1600, 1200)))
    return path


def code_for(stack: Stack, address: str) -> str:
    for path in sorted((stack.home / "mail").glob("*.log"), reverse=True):
        text = path.read_text()
        if f"To: {address}" in text and (found := re.search(r"^([A-Z0-9]{3,}-?[A-Z0-9]{3,})$", text, re.MULTILINE)):
            return found[1]
    raise AssertionError(f"no mail with a code for {address}")


def log_in(page: Page, stack: Stack, who: str = "seller@example.com") -> None:
    accounts = json.loads((stack.home / "demo-accounts.json").read_text())
    password = next(account["password"] for account in accounts if account["email"] == who)
    page.goto("/accounts/login/")
    page.get_by_label("E-mail").fill(who)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def test_a_seller_signs_up_uploads_sees_five_categories_and_answers(page: Page, stack: Stack, photo: Path) -> None:
    address = f"new{page.viewport_size['width']}@shop.example"  # type: ignore[index]
    page.goto("/")
    page.get_by_role("link", name="Sign up").first.click()
    page.get_by_label("E-mail").fill(address)
    page.get_by_label("Password").fill(PASSWORD)
    assert_no_sideways_scroll(page)
    page.get_by_role("button", name="Create an account").click()
    page.get_by_label("Code").fill(code_for(stack, address))
    page.get_by_role("button", name=re.compile("Confirm|Continue|Verify")).click()
    expect(page.get_by_text("Your first product takes a minute")).to_be_visible()

    page.get_by_role("link", name="Add product").first.click()
    page.locator("input[type=file]").set_input_files(photo)
    page.get_by_label("Title").fill("Yamaha acoustic guitar with case")
    page.get_by_label("Description").fill("Spruce top, steel strings, hardly played")
    assert_no_sideways_scroll(page)
    page.get_by_role("button", name="Suggest categories").click()

    expect(page.get_by_text("Which category fits?")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/products/[0-9a-f-]{36}/$"))
    for folded in page.get_by_text(re.compile("less likely categor")).all():
        folded.click()
    rows = page.locator("button[name=category]:visible")
    expect(rows).to_have_count(5)
    assert_no_sideways_scroll(page)

    second = rows.nth(1)
    chosen = stack.query("SELECT top5->1->>'category' FROM classifier_prediction ORDER BY created_at DESC LIMIT 1")[0][
        0
    ]
    second.click()
    expect(page.get_by_text("Category chosen")).to_be_visible()
    expect(page.get_by_role("paragraph").filter(has_text=chosen).first).to_be_visible()
    another = page.get_by_role("link", name="Add another product")
    expect(another).to_be_focused()

    page.get_by_text("My products").first.click()
    expect(page.get_by_text("Yamaha acoustic guitar with case").first).to_be_visible()
    expect(page.locator("tbody:visible").get_by_text(chosen).first).to_be_visible()
    page.get_by_role("searchbox").fill("guitars")
    expect(page.get_by_label("Sort").locator("option").first).to_have_text("Best match first")
    expect(page.get_by_text("Yamaha acoustic guitar with case").first).to_be_visible()
    assert_no_sideways_scroll(page)


def test_a_seller_answers_with_a_category_outside_the_five_suggestions(page: Page, stack: Stack) -> None:
    log_in(page, stack)
    page.goto("/products/new/")
    page.get_by_label("Title").fill("Acoustic guitar")
    page.get_by_role("button", name="Suggest categories").click()
    expect(page.get_by_text("Which category fits?")).to_be_visible()
    page.get_by_text("None of these", exact=True).click()
    page.get_by_role("combobox").or_(page.get_by_role("searchbox")).first.fill("Pet")
    page.get_by_role("option", name="Pet Supplies").or_(page.get_by_role("button", name="Pet Supplies")).first.click()
    expect(page.get_by_role("paragraph").filter(has_text="Pet Supplies").first).to_be_visible()
    assert_no_sideways_scroll(page)


def test_a_form_with_a_mistake_keeps_text_and_photo(page: Page, stack: Stack, photo: Path) -> None:
    log_in(page, stack)
    page.goto("/products/new/")
    page.locator("input[type=file]").set_input_files(photo)
    page.get_by_label("Title").fill("x" * 400)
    page.get_by_role("button", name="Suggest categories").click()
    expect(page.get_by_text("This title has 400 characters").first).to_be_visible()
    expect(page.get_by_label("Title")).to_have_value("x" * 400)
    assert_no_sideways_scroll(page)
    page.get_by_label("Title").fill("Red mug")
    page.get_by_role("button", name="Suggest categories").click()
    expect(page.get_by_text("Which category fits?")).to_be_visible()
    assert stack.query("SELECT photo_large <> '' FROM portal_product ORDER BY created_at DESC LIMIT 1") == [(True,)]


def test_a_phones_photo_is_made_smaller_and_upright_before_it_is_sent(page: Page, stack: Stack, tmp_path: Path) -> None:
    noisy = Image.effect_noise((4000, 3000), 60).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the phone was held upright
    noisy.save(tmp_path / "phone.jpg", quality=92, exif=exif)
    log_in(page, stack)
    page.goto("/products/new/")
    chosen = page.locator("input[type=file]")
    chosen.set_input_files(tmp_path / "phone.jpg")
    page.wait_for_function(
        "before => document.querySelector('.photo-input').files[0].size < before / 3",
        arg=(tmp_path / "phone.jpg").stat().st_size,
    )
    shown = page.locator(".photo-preview")
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [
        1200,
        1600,
    ]
    (tmp_path / "dance.gif").write_bytes(b"GIF89a")
    chosen.set_input_files(tmp_path / "dance.gif")
    expect(page.get_by_text("This file is of the kind GIF.").first).to_be_visible()
    assert chosen.evaluate("input => [...input.files].map((file) => file.name)") == ["phone.jpg"]


def test_an_unsent_form_survives_a_reload_and_is_offered_in_another_tab(
    page: Page, context: BrowserContext, stack: Stack, photo: Path
) -> None:
    log_in(page, stack)
    page.goto("/products/new/")
    page.get_by_label("Title").fill("Enamel kettle")
    page.locator("input[type=file]").set_input_files(photo)
    expect(page.locator(".photo-preview")).to_be_visible()
    page.reload()
    expect(page.get_by_text("It has not been sent yet.").first).to_be_visible()
    expect(page.get_by_label("Title")).to_have_value("Enamel kettle")
    expect(page.locator(".photo-preview")).to_be_visible()

    other = context.new_page()
    other.goto("/products/new/")
    expect(other.get_by_text("You have a product that was not sent yet.").first).to_be_visible()
    expect(other.get_by_label("Title")).to_have_value("")
    other.get_by_role("button", name="Continue with it").click()
    expect(other.get_by_label("Title")).to_have_value("Enamel kettle")
    other.get_by_role("button", name="Suggest categories").click()
    expect(other.get_by_text("Which category fits?")).to_be_visible()
    page.goto("/products/new/")
    expect(page.get_by_label("Title")).to_have_value("")
    expect(page.get_by_text("not been sent")).to_be_hidden()


def test_a_seller_lists_and_answers_a_product_without_javascript(browser: Browser, stack: Stack, photo: Path) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=stack.address, viewport=PHONE)
    page = context.new_page()
    log_in(page, stack)
    page.goto("/products/new/")
    page.locator("input[type=file]").set_input_files(photo)
    page.get_by_label("Title").fill("Acoustic guitar")
    page.get_by_role("button", name="Suggest categories").click()
    wait_until(lambda: stack.count("state IN ('queued', 'running')") == 0, "the answer")
    page.reload()
    page.locator("button[name=category]").first.click()
    expect(page.get_by_text("Category chosen")).to_be_visible()
    context.close()


def test_the_admin_and_the_api_docs_load_nothing_from_other_hosts(browser: Browser, stack: Stack) -> None:
    context = browser.new_context(base_url=stack.address, viewport=DESK)
    page = context.new_page()
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url) if stack.address not in request.url else None)
    log_in(page, stack, "scientist@example.com")
    page.goto("/admin/classifier/prediction/")
    expect(page.get_by_role("heading", name=re.compile("prediction", re.IGNORECASE)).first).to_be_visible()
    for address in ("/api/docs/", "/api/console/"):
        page.goto(address)
        expect(page.get_by_text("/api/v1/predictions").first).to_be_visible()
    assert [url for url in foreign if not url.startswith(("data:", "blob:"))] == []
    context.close()
