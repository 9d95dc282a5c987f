"""A product that its seller seems to have already is listed with a warning."""

import io
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from PIL import Image, ImageDraw
from rest_framework.test import APIClient

from classifier.models import Prediction
from classifier.tasks import classify_pending
from portal.models import Product, User
from portal.products import services
from portal.products.duplicates import MOST_SHOWN, DuplicateReason, find_duplicates
from tests.support.photos import photo_upload


@pytest.fixture(autouse=True)
def no_waiting(settings: Any) -> None:
    """No worker runs here: pages answer at once with the waiting state."""
    settings.RESULT_WAIT_SECONDS = 0


def picture(circles: list[tuple[int, int, str]], *, size: int = 600, quality: int = 90) -> bytes:
    """Return a JPEG with circles on a striped ground."""
    photo = Image.linear_gradient("L").resize((600, 600)).convert("RGB")
    draw = ImageDraw.Draw(photo)
    for x, y, colour in circles:
        draw.ellipse((x, y, x + 180, y + 180), fill=colour)
    buffer = io.BytesIO()
    photo.resize((size, size)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


MUG = [(60, 80, "red"), (300, 340, "white"), (330, 40, "black")]
BOWL = [(20, 300, "white"), (400, 200, "navy"), (200, 420, "red")]


def listed(seller: User, *, photo: bytes | None = None, title: str = "Blue mug", **values: str) -> Product:
    photos = [services.create_photo_draft(seller=seller, upload=photo_upload(photo))] if photo else []
    product = services.submit_product(seller=seller, title=title, photos=photos, **values)
    if photo:
        classify_pending()
    return Product.objects.select_related("prediction").get(pk=product.pk)


def found(product: Product) -> list[tuple[Product, str]]:
    return [(each.product, each.reason.value) for each in find_duplicates(product, seller=product.seller)]


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [("G-1", "G-1", True), ("g-1ß", "G-1ß", True), ("ÄB", "äb", True), ("G-1", "G-10", False), ("", "", False)],
)
def test_the_same_sku_in_any_case_is_a_duplicate(seller: User, first: str, second: str, is_same: bool) -> None:
    other = listed(seller, title="Mug", sku=first)
    product = listed(seller, title="Cup", sku=second)
    assert found(product) == ([(other, DuplicateReason.SKU)] if is_same else [])


def test_the_same_title_and_photo_are_a_duplicate_also_when_the_photo_is_smaller(seller: User) -> None:
    other = listed(seller, photo=picture(MUG))
    product = listed(seller, photo=picture(MUG, size=420, quality=60))
    assert found(product) == [(other, DuplicateReason.PHOTO)]


def test_another_photo_or_another_title_is_no_duplicate(seller: User) -> None:
    listed(seller, photo=picture(MUG))
    assert found(listed(seller, photo=picture(BOWL))) == []
    assert found(listed(seller, photo=picture(MUG), title="Red mug")) == []
    assert found(listed(seller)) == []


def test_a_photo_that_shows_nothing_is_like_no_other(seller: User) -> None:
    surfaces = [listed(seller, photo=photo_upload_of_one_colour()) for _ in range(2)]
    assert found(surfaces[1]) == []


def photo_upload_of_one_colour() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 300), "grey").save(buffer, "JPEG")
    return buffer.getvalue()


def test_without_photos_title_and_description_have_to_be_the_same(seller: User) -> None:
    other = listed(seller, description="A mug.")
    assert found(listed(seller, description="A cup.")) == []
    assert found(listed(seller, description="A mug.")) == [(other, DuplicateReason.TEXT)]


def test_products_of_others_and_products_in_the_trash_are_no_duplicates(seller: User, other_seller: User) -> None:
    listed(other_seller, sku="G-1")
    deleted = listed(seller, sku="G-1")
    services.trash_products(products=Product.objects.filter(pk=deleted.pk))
    assert found(listed(seller, sku="G-1")) == []


def test_a_product_is_named_once_and_a_few_are_enough(seller: User) -> None:
    for _number in range(MOST_SHOWN + 2):
        listed(seller, sku="G-1")
    reasons = found(listed(seller, sku="G-1"))
    assert [reason for _product, reason in reasons] == [DuplicateReason.SKU] * MOST_SHOWN


def test_the_page_links_to_the_other_product_and_deletes_this_one(browser: Client, seller: User) -> None:
    other = listed(seller, title="Blue <b>mug", sku="G-1")
    browser.post(reverse("product_new"), {"title": "Cup", "sku": "g-1"})
    product = Product.objects.get(title="Cup")
    page = browser.get(product.get_absolute_url()).content.decode()
    assert "You have another product with the SKU <bdi>G-1</bdi>:" in page and "Blue &lt;b&gt;mug" in page
    assert (
        f'href="{other.get_absolute_url()}"' in page and page.count(reverse("product_delete", args=[product.pk])) == 2
    )
    assert "Perhaps a duplicate" not in browser.get(reverse("products")).content.decode()


def test_the_form_says_at_once_that_a_sku_is_taken(browser: Client, seller: User, other_seller: User) -> None:
    mine = listed(seller, title="Blue mug", sku="G-1")
    listed(other_seller, sku="X-1")
    check = reverse("sku_check")
    assert mine.get_absolute_url() in browser.get(check, {"sku": " g-1 "}).content.decode()
    for query in ({"sku": "g-1", "product": str(mine.pk)}, {"sku": "X-1"}, {"sku": "x" * 999}, {"sku": " "}, {}):
        assert browser.get(check, query).content.decode().strip() == "", query


def test_the_api_lists_duplicates_and_refuses_nothing(api: APIClient, seller: User) -> None:
    other = listed(seller, title="Mug", sku="G-1")
    created = api.post("/api/v1/predictions", {"title": "Cup", "sku": "g-1"}, format="multipart")
    expected = [{"id": str(other.pk), "reason": "same_sku"}]
    assert (created.status_code, created.json()["duplicates"]) == (202, expected)
    address = f"/api/v1/products/{created.json()['product']}"
    assert api.get(address).json()["duplicates"] == expected
    changed = api.patch(address, {"sku": "G-2"}, format="json").json()
    assert changed["duplicates"] == []
    assert "duplicates" not in api.get("/api/v1/products").json()["results"][0]


def test_a_sku_is_looked_up_in_an_index(seller: User) -> None:
    predictions = Prediction.objects.bulk_create([Prediction(seller=seller, title="Mug") for _ in range(3000)])
    rows = enumerate(predictions)
    Product.objects.bulk_create([Product(seller=seller, prediction=each, sku=f"S-{number}") for number, each in rows])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE portal_product")
    plan = Product.objects.for_seller(seller).with_sku("s-7").explain()
    assert "product_sku_of_seller" in plan, plan
