"""Photos are added, ordered and removed in a real browser, on a desk, on a phone and without a script."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.urls import reverse
from PIL import Image
from playwright.sync_api import Page, expect

from common.photos.decoder_pool import Copies
from portal.models import Product
from portal.products import services
from tests.support.accounts import logged_in_client, make_user
from tests.support.browser import assert_no_sideways_scroll, browse, screenshot_folder
from tests.support.photos import photo_upload, product_photo

NARROW = {"width": 360, "height": 780}
COLOURS = ("red", "green", "blue", "orange", "purple", "teal", "gold", "navy", "pink", "brown", "grey")


@pytest.fixture(autouse=True)
def no_waiting(settings: object) -> None:
    settings.RESULT_WAIT_SECONDS = 0  # type: ignore[attr-defined]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Eleven photos of one colour each."""
    paths = [tmp_path / f"{colour}.jpg" for colour in COLOURS]
    for path in paths:
        Image.new("RGB", (640, 480), path.stem).save(path)
    return paths


def colours_of(product: Product) -> list[str]:
    """Return the names of the colours of a product's stored photos, in order."""
    named = {Image.new("RGB", (1, 1), name).getpixel((0, 0)): name for name in COLOURS}
    found = []
    for row in product.photos.order_by("position"):
        pixel = Image.open(default_storage.open(row.small)).convert("RGB").getpixel((5, 5))
        found.append(min(named, key=lambda known: sum(abs(a - b) for a, b in zip(known, pixel, strict=True))))  # type: ignore[arg-type]
    return [named[pixel] for pixel in found]


def choose(page: Page, photos: Sequence[Path]) -> None:
    page.locator(".photo-input").set_input_files(list(photos))


def press(page: Page, name: str) -> None:
    """Press a button by the keyboard."""
    page.get_by_role("button", name=name, exact=True).focus()
    page.keyboard.press("Enter")


def test_photos_are_ordered_and_removed_by_keyboard(address: str, photos: list[Path], tmp_path: Path) -> None:
    seller = make_user("keys@shop.example")

    def steps(page: Page) -> None:
        page.goto(reverse("product_new"))
        choose(page, photos[:3])
        choose(page, photos[3:4])  # further ones come behind
        live = page.locator("#live")
        expect(live).to_have_text("Photo added: orange.jpg. Photos: 4")
        press(page, "Photo 4 of 4")
        press(page, "Make main")
        expect(live).to_have_text("This is the main photo now")
        press(page, "Photo 2 of 4")
        press(page, "Move one place back")
        expect(live).to_have_text("Photo 3 of 4")
        press(page, "Remove this photo")
        expect(live).to_have_text("Photo removed. Photos: 3")
        expect(page.get_by_role("button", name="Remove this photo")).to_be_focused()
        page.screenshot(path=screenshot_folder(tmp_path) / "photos-desk.png")
        page.get_by_label("Title").fill("x" * 400)
        page.get_by_role("button", name="Suggest categories").click()
        expect(page.get_by_text("This title has 400 characters").first).to_be_visible()
        choose(page, photos[4:5])
        press(page, "Photo 4 of 4")
        press(page, "Move one place forward")
        page.get_by_label("Title").fill("Four coloured cards")
        page.get_by_role("button", name="Suggest categories").click()
        page.wait_for_url("**/products/*-*/")

    browse(logged_in_client(seller), address, steps)
    assert colours_of(Product.objects.get()) == ["orange", "green", "purple", "blue"]


def test_a_phone_shows_ten_photos_and_refuses_an_eleventh(address: str, photos: list[Path], tmp_path: Path) -> None:
    seller = make_user("phone@shop.example")

    def steps(page: Page) -> None:
        page.goto(reverse("product_new"))
        choose(page, photos[:2])
        page.screenshot(path=screenshot_folder(tmp_path) / "photos-phone-two.png")
        choose(page, photos[2:])
        expect(page.locator("[data-photo-error]")).to_have_text("A product can have at most 10 photos. Left out: 1.")
        assert_no_sideways_scroll(page)
        page.screenshot(path=screenshot_folder(tmp_path) / "photos-phone-ten.png", full_page=True)
        for control in page.locator(".photo button:visible").all():
            box = control.bounding_box()
            assert box and min(box["width"], box["height"]) >= 44, control
        (tmp_path / "dance.gif").write_bytes(b"GIF89a")
        page.get_by_role("button", name="Photo 10 of 10").click()
        page.get_by_role("button", name="Remove this photo").click()
        choose(page, [tmp_path / "dance.gif", photos[10]])
        expect(page.locator("[data-photo-error]")).to_contain_text("“dance.gif”: This file is of the kind GIF.")
        expect(page.locator(".photo-strip .photo-tile")).to_have_count(10)

    browse(logged_in_client(seller), address, steps, viewport=NARROW, has_touch=True)


def test_a_form_waits_until_its_photos_are_made_smaller(address: str, tmp_path: Path) -> None:
    seller = make_user("large@shop.example")
    paths = [tmp_path / "front.jpg", tmp_path / "back.jpg"]
    for path in paths:
        Image.effect_noise((3000, 2000), 60).convert("RGB").save(path, quality=92)
    sent: list[int] = []

    def steps(page: Page) -> None:
        page.on("request", lambda request: sent.append(len(request.post_data_buffer or b"")))
        page.goto(reverse("product_new"))
        choose(page, paths)
        page.get_by_role("button", name="Suggest categories").click()
        page.wait_for_url("**/products/*-*/")

    browse(logged_in_client(seller), address, steps)
    assert Product.objects.get().photos.count() == 2
    assert max(sent) < sum(path.stat().st_size for path in paths) / 2


def test_without_a_script_a_main_photo_is_chosen_and_another_removed(address: str, tmp_path: Path) -> None:
    seller = make_user("plain@shop.example")
    drafts = [services.store_photo_draft(seller=seller, copies=Copies(b"", b"")) for _number in range(3)]
    product = services.submit_product(seller=seller, title="Mug", photos=drafts)

    def steps(page: Page) -> None:
        page.goto(reverse("product_edit", args=[product.pk]))
        page.screenshot(path=screenshot_folder(tmp_path) / "photos-no-script.png", full_page=True)
        tiles = page.locator(".photo-tile")
        tiles.nth(0).get_by_label("Remove").check()
        tiles.nth(2).get_by_label("Make it the main photo").check()
        page.get_by_role("button", name="Save changes").click()
        page.wait_for_url("**/products/*-*/")

    browse(logged_in_client(seller), address, steps, viewport=NARROW, java_script_enabled=False)
    assert list(product.photos.order_by("position")) == [drafts[2], drafts[1]]


def test_a_small_photo_of_a_product_shows_its_large_copy(address: str, tmp_path: Path) -> None:
    seller = make_user("look@shop.example")
    uploads = [photo_upload(product_photo(size=(640, height))) for height in (480, 640)]
    drafts = [services.create_photo_draft(seller=seller, upload=upload) for upload in uploads]
    product = services.submit_product(seller=seller, title="Mug", photos=drafts)

    def steps(page: Page) -> None:
        page.goto(product.get_absolute_url())
        page.get_by_role("link", name="Photo 2 of 2").click()
        large = page.locator(".product-photo img")
        assert large.evaluate("image => image.decode().then(() => image.naturalHeight)") == 640
        expect(page.get_by_role("link", name="Photo 2 of 2").last).to_have_attribute("aria-current", "true")
        page.screenshot(path=screenshot_folder(tmp_path) / "product-photos.png")
        page.set_viewport_size(NARROW)
        assert_no_sideways_scroll(page)
        page.screenshot(path=screenshot_folder(tmp_path) / "product-photos-phone.png")

    browse(logged_in_client(seller), address, steps)
