"""Programs send, order, remove and fetch several photos of a product."""

import io
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image
from rest_framework.test import APIClient

from common.photos.decoder_pool import Copies
from portal.api.throttles import UploadThrottle
from portal.models import Product, ProductPhoto, User
from portal.products import services
from tests.support.api import problem
from tests.support.photos import photo_upload, product_photo

PREDICTIONS = "/api/v1/predictions"


def files(*widths: int) -> list[SimpleUploadedFile]:
    """Return photos that can be told apart by their width."""
    return [photo_upload(product_photo(size=(width, 300)), f"IMG_{width}.jpg") for width in widths]


def address_of(product: Product) -> str:
    return f"/api/v1/products/{product.pk}"


def keys_of(product: Product) -> list[str]:
    return [str(key) for key in product.photos.order_by("position").values_list("pk", flat=True)]


def widths_of(api: APIClient, product: Product) -> list[int]:
    """Return the widths of a product's photos as the API serves them."""
    photos = api.get(address_of(product)).json()["photos"]
    return [Image.open(io.BytesIO(b"".join(api.get(photo["url"])))).width for photo in photos]  # type: ignore[arg-type]


@pytest.fixture
def product(seller: User) -> Product:
    """A product with three photos, whose files are not pictures."""
    drafts = [services.store_photo_draft(seller=seller, copies=Copies(b"large", b"small")) for _number in range(3)]
    return services.submit_product(seller=seller, title="Mug", photos=drafts)


def test_repeated_images_become_the_photos_in_their_order(api: APIClient) -> None:
    assert api.post(PREDICTIONS, {"title": "Mug", "image": files(500, 400)}).status_code == 202
    product = Product.objects.get()
    assert widths_of(api, product) == [500, 400]
    assert product.prediction.photo_large == product.photos.get(position=0).large


def test_photos_are_listed_with_addresses_that_the_token_opens(api: APIClient, product: Product) -> None:
    (listed,) = api.get("/api/v1/products").json()["results"]
    assert [photo["id"] for photo in listed["photos"]] == keys_of(product)
    photo = api.get(listed["photos"][0]["url"])
    assert (photo.status_code, photo["Content-Type"]) == (200, "image/jpeg")
    assert APIClient().get(listed["photos"][0]["url"]).status_code == 401


@pytest.mark.parametrize("accept", ["image/jpeg", "image/*", "application/json", "text/html"])
def test_a_photo_is_a_jpeg_and_its_error_json_whatever_is_accepted(
    api: APIClient, product: Product, accept: str
) -> None:
    address = f"{address_of(product)}/photos"
    assert api.get(f"{address}/{keys_of(product)[0]}", headers={"Accept": accept})["Content-Type"] == "image/jpeg"
    assert problem(api.get(f"{address}/{uuid4()}", headers={"Accept": accept}))["code"] == "not_found"


def test_a_photo_is_found_by_its_own_product_only(
    api: APIClient, seller: User, product: Product, make_product: Callable[..., Product]
) -> None:
    other = make_product(seller, answered=False)
    assert api.get(f"{address_of(other)}/photos/{keys_of(product)[0]}").status_code == 404


def test_photos_are_reordered_and_removed_by_their_ids(api: APIClient, product: Product) -> None:
    first, second, third = keys_of(product)
    changed = api.patch(address_of(product), {"photos": [third, first]}, format="json").json()
    assert [photo["id"] for photo in changed["photos"]] == keys_of(product) == [third, first]
    assert changed["prediction"] != str(product.prediction_id)
    assert not ProductPhoto.objects.get(pk=second).product


def test_another_order_of_the_other_photos_keeps_the_prediction(api: APIClient, product: Product) -> None:
    first, second, third = keys_of(product)
    changed = api.patch(address_of(product), {"photos": [first, third, second]}, format="json").json()
    assert changed["prediction"] == str(product.prediction_id)


def test_images_come_behind_the_photos_that_are_named(api: APIClient) -> None:
    api.post(PREDICTIONS, {"title": "Mug", "image": files(500, 400)})
    product = Product.objects.get()
    first, second = keys_of(product)
    answer = api.patch(address_of(product), {"photos": [second, first], "image": files(610, 620)})
    assert answer.status_code == 200
    assert widths_of(api, product) == [400, 500, 610, 620]


def test_images_alone_replace_the_photos(api: APIClient, product: Product) -> None:
    api.patch(address_of(product), {"image": files(500, 400)})
    assert widths_of(api, product) == [500, 400]


@pytest.mark.parametrize("changes", [{"photos": []}, {"remove_image": True}])
def test_all_photos_are_removed(api: APIClient, product: Product, changes: dict[str, Any]) -> None:
    assert api.patch(address_of(product), changes, format="json").json()["photos"] == []
    assert Product.objects.get().photo_large == ""


def test_other_values_leave_the_photos(api: APIClient, product: Product) -> None:
    before = keys_of(product)
    api.patch(address_of(product), {"sku": "M-1"}, format="json")
    assert keys_of(product) == before


UNKNOWN = str(uuid4())


@pytest.mark.parametrize(
    ("changes", "encoding", "status", "code", "attr"),
    [
        ({"photos": [UNKNOWN]}, "json", 400, "unknown_photo", "photos"),
        ({"photos": ["0", "0"]}, "json", 400, "repeated_photo", "photos"),
        ({"photos": ["mug.jpg"]}, "json", 400, "invalid", "photos"),
        ({"photos": "0"}, "json", 400, "not_a_list", "photos"),
        ({"photos": None}, "json", 400, "null", "photos"),
        ({"photos": ["0"], "remove_image": True}, "json", 400, "remove_and_replace", "remove_image"),
        ({"photos": ["0", "1", "2"], "image": 8}, "multipart", 400, "too_many_photos", "image"),
        ({"image": 11}, "multipart", 400, "too_many_photos", "image"),
        ({"image": 21}, "multipart", 400, "too_many_files", None),
        ({"image": ["mug.jpg"]}, "json", 400, "invalid", "image"),
    ],
)
def test_a_change_of_photos_with_a_fault_is_rejected_and_the_fault_named(
    api: APIClient, product: Product, changes: dict[str, Any], encoding: str, status: int, code: str, attr: str | None
) -> None:
    own = dict(zip("012", keys_of(product), strict=True))
    sent: dict[str, Any] = dict(changes)
    if isinstance(sent.get("photos"), list):
        sent["photos"] = [own.get(key, key) for key in sent["photos"]]
    elif "photos" in sent:
        sent["photos"] = own.get(sent["photos"], sent["photos"])
    if isinstance(sent.get("image"), int):
        sent["image"] = [photo_upload() for _number in range(sent["image"])]
    refused = api.patch(address_of(product), sent, format=encoding)
    assert (refused.status_code, problem(refused)["code"], problem(refused)["attr"]) == (status, code, attr)
    assert keys_of(product) == list(own.values()) and ProductPhoto.objects.count() == 3


def test_a_new_product_names_no_photos(api: APIClient) -> None:
    refused = api.post(PREDICTIONS, {"title": "Mug", "photos": str(uuid4())})
    assert (problem(refused)["code"], problem(refused)["attr"]) == ("unknown_field", "photos")


def test_another_products_photo_can_not_be_named(
    api: APIClient, seller: User, product: Product, make_product: Callable[..., Product]
) -> None:
    other = make_product(seller, answered=False)
    refused = api.patch(address_of(other), {"photos": keys_of(product)}, format="json")
    assert problem(refused)["code"] == "unknown_photo"


def test_of_several_images_a_bad_one_is_named_and_nothing_is_stored(api: APIClient) -> None:
    good, other = files(500, 400)
    images = [good, photo_upload(b"GIF89a" + b"\0" * 200, "IMG_3.gif"), other]
    refused = api.post(PREDICTIONS, {"title": "Mug", "image": images})
    assert (refused.status_code, problem(refused)["code"]) == (415, "unsupported_photo")
    assert problem(refused)["detail"].startswith("“IMG_3.gif”: This file is of the kind GIF.")
    assert not Product.objects.exists() and not ProductPhoto.objects.exists()


def test_images_beyond_the_limit_of_a_request_are_rejected(api: APIClient, settings: Any) -> None:
    content = product_photo(size=(800, 600))
    settings.UPLOAD_LIMIT_BYTES = settings.UPLOAD_REQUEST_LIMIT_BYTES = round(1.5 * len(content))
    refused = api.post(PREDICTIONS, {"title": "Mug", "image": [photo_upload(content), photo_upload(content)]})
    assert (refused.status_code, problem(refused)["code"]) == (413, "photos_too_large")


def test_each_image_counts_as_an_upload(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UploadThrottle, "rate", "4/minute", raising=False)
    answers = [api.post(PREDICTIONS, {"title": "Mug", "image": files(500, 400, 600)})]
    answers += [api.post(PREDICTIONS, {"title": "Mug"}) for _number in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert int(answers[-1]["Retry-After"]) > 30


def test_images_in_another_order_are_another_request(api: APIClient) -> None:
    key = {"Idempotency-Key": "8e03978e-40d5-43e6-bc93-6894a57f9324"}
    first = api.post(PREDICTIONS, {"title": "Mug", "image": files(500, 400)}, headers=key)
    again = api.post(PREDICTIONS, {"title": "Mug", "image": files(500, 400)}, headers=key)
    other = api.post(PREDICTIONS, {"title": "Mug", "image": files(400, 500)}, headers=key)
    assert again.content == first.content and other.status_code == 422
    assert Product.objects.count() == 1


def test_the_list_asks_the_database_once_for_all_photos(
    api: APIClient, seller: User, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    for _number in range(15):
        draft = services.store_photo_draft(seller=seller, copies=Copies(b"large", b"small"))
        services.submit_product(seller=seller, title="Mug", photos=[draft])
    with django_assert_max_num_queries(10):
        api.get("/api/v1/products")
