"""The form adds, orders and removes several photos, and loses none of them by a mistake elsewhere."""

import io
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from common.object_storage import breaker
from common.photo_decoding import upload_decoders
from common.photos.decoder_pool import ORDINARY, Copies
from portal.api.throttles import UploadThrottle
from portal.models import Product, ProductPhoto, User
from portal.products import photos, services
from portal.products.upload_handlers import LimitedUploadHandler
from tests.support.photos import photo_upload, product_photo


@pytest.fixture(autouse=True)
def no_waiting(settings: Any) -> None:
    settings.RESULT_WAIT_SECONDS = 0


def files(*widths: int) -> list[SimpleUploadedFile]:
    """Return photos that can be told apart by their width."""
    return [photo_upload(product_photo(size=(width, 300)), f"IMG_{width}.jpg") for width in widths]


def widths_of(product: Product) -> list[int]:
    from django.core.files.storage import default_storage
    from PIL import Image

    rows = product.photos.order_by("position")
    return [Image.open(io.BytesIO(default_storage.open(row.large).read())).width for row in rows]


def submit(browser: Client, **fields: Any) -> Any:
    return browser.post(reverse("product_new"), {"title": "Mug", **fields})


def edit(browser: Client, product: Product, **fields: Any) -> Any:
    return browser.post(reverse("product_edit", args=[product.pk]), {"title": product.title, **fields})


def listed(response: Any) -> list[str]:
    """Return the ids that a page would send as the order of its photos."""
    form = response.content.decode().split("<template data-photo-template>")[0]
    return re.findall(r'name="photos" value="([^"]+)"', form)


def keys_of(product: Product) -> list[str]:
    return [str(key) for key in product.photos.order_by("position").values_list("pk", flat=True)]


@pytest.fixture
def product(seller: User) -> Product:
    """A product with three photos, whose files are not pictures."""
    drafts = [services.store_photo_draft(seller=seller, copies=Copies(b"large", b"small")) for _number in range(3)]
    return services.submit_product(seller=seller, title="Mug", photos=drafts)


def test_several_files_become_a_products_photos_in_their_order(browser: Client) -> None:
    submit(browser, photo=files(500, 400, 600))
    assert widths_of(Product.objects.get()) == [500, 400, 600]


def test_files_take_their_places_among_the_photos_that_are_there(browser: Client) -> None:
    submit(browser, photo=files(500, 400))
    product = Product.objects.get()
    first, second = keys_of(product)
    edit(browser, product, photos=["new", second, "new", first], photo=files(610, 620))
    assert widths_of(product) == [610, 400, 620, 500]


def test_without_a_script_files_come_last_and_the_main_photo_is_chosen(browser: Client, product: Product) -> None:
    first, second, third = keys_of(product)
    page = edit(
        browser, product, photos=[first, second, third], remove_photos=[first], main_photo=third, photo=files(500)
    )
    assert page.status_code == 302
    assert keys_of(product)[:2] == [third, second] and len(keys_of(product)) == 3


def test_the_edit_page_lists_the_photos_in_order(browser: Client, product: Product) -> None:
    page = browser.get(reverse("product_edit", args=[product.pk]))
    assert listed(page) == keys_of(product)


def test_the_products_page_shows_every_photo(browser: Client, product: Product) -> None:
    page = browser.get(product.get_absolute_url()).content.decode()
    for photo in product.photos.all():
        assert f'href="{photo.large_url}"' in page and f'src="{photo.small_url}"' in page


def test_another_order_of_the_other_photos_keeps_the_suggestions(browser: Client, product: Product) -> None:
    first, second, third = keys_of(product)
    edit(browser, product, photos=[first, third, second])
    assert keys_of(product) == [first, third, second]
    assert Product.objects.get().prediction == product.prediction


def test_of_several_files_a_bad_one_is_named_and_the_others_are_kept(browser: Client) -> None:
    good, other = files(500, 400)
    response = submit(browser, photo=[good, photo_upload(b"GIF89a" + b"\0" * 200, "IMG_3.gif"), other])
    words = response.content.decode()
    assert response.status_code == 422
    assert "“IMG_3.gif”: This file is of the kind GIF." in words and "IMG_500.jpg" not in words
    submit(browser, photos=listed(response))
    assert widths_of(Product.objects.get()) == [500, 400]


def test_a_wrong_field_loses_neither_photos_nor_their_order_nor_what_was_removed(
    browser: Client, product: Product
) -> None:
    first, second, third = keys_of(product)
    response = edit(
        browser, product, title="x" * 400, photos=[third, "new", first], remove_photos=[second], photo=files(500)
    )
    again = listed(response)
    assert (again[0], again[2], len(again)) == (third, first, 3)
    assert f'type="hidden" name="remove_photos" value="{second}"' in response.content.decode()
    edit(browser, product, photos=again, remove_photos=[second])
    assert keys_of(product) == again


def test_of_eleven_files_ten_are_kept_and_the_page_says_so(browser: Client) -> None:
    response = submit(browser, photo=[photo_upload() for _number in range(11)])
    assert "at most 10 photos. Left out: 1." in response.content.decode()
    assert len(listed(response)) == 10
    submit(browser, photos=listed(response))
    assert Product.objects.get().photos.count() == 10


def test_a_file_too_many_takes_the_place_of_no_photo_that_is_there(browser: Client, product: Product) -> None:
    before = keys_of(product)
    photos = [photo_upload() for _number in range(9)]
    response = edit(browser, product, photos=["new"] * 9 + before, photo=photos)
    assert "Left out: 2." in response.content.decode()
    assert listed(response)[7:] == before


def test_a_request_of_very_many_files_is_refused_whole(browser: Client) -> None:
    response = submit(browser, photo=[photo_upload() for _number in range(21)])
    assert response.status_code == 400
    assert not Product.objects.exists() and not ProductPhoto.objects.exists()


def test_the_files_of_a_request_have_a_limit_together(browser: Client, settings: Any) -> None:
    content = product_photo(size=(800, 600))
    settings.UPLOAD_LIMIT_BYTES = settings.UPLOAD_REQUEST_LIMIT_BYTES = round(2.5 * len(content))
    response = submit(browser, photo=[photo_upload(content, f"IMG_{number}.jpg") for number in range(3)])
    words = response.content.decode()
    assert "“IMG_2.jpg”: Photos that are sent together may have" in words and "“IMG_1.jpg”" not in words
    assert len(listed(response)) == 2


def test_no_more_than_the_limit_of_a_request_is_written(settings: Any) -> None:
    settings.UPLOAD_LIMIT_BYTES, settings.UPLOAD_REQUEST_LIMIT_BYTES = 100, 150
    handler = LimitedUploadHandler()
    sizes = []
    for _number in range(3):
        handler.new_file("photo", "mug.jpg", "image/jpeg", None)
        for start in range(0, 1000, 50):
            handler.receive_data_chunk(b"x" * 50, start)
        handler.file.seek(0, io.SEEK_END)
        sizes.append(handler.file.tell())
    assert sizes == [101, 49, 0]


def test_each_photo_counts_as_an_upload(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UploadThrottle, "rate", "5/minute", raising=False)
    responses = [submit(browser, photo=files(500, 400, 600)), submit(browser), submit(browser), submit(browser)]
    assert [response.status_code for response in responses] == [302, 302, 302, 429]
    assert int(responses[-1]["Retry-After"]) > 30


def test_photos_that_take_too_long_together_are_asked_for_again(
    browser: Client, seller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "LONGEST_DECODING", -1.0)
    response = submit(browser, photo=files(500, 400))
    assert response.content.decode().count("Many photos are coming in at the moment.") == 2  # on top and at the field
    assert not Product.objects.exists()


def test_a_sellers_photos_of_one_request_are_decoded_in_turns(
    browser: Client, seller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.photo_decoding.LONGEST_TURN", 0.01)
    with upload_decoders().turns.turn(seller.pk, ORDINARY, patience=1):
        response = submit(browser, photo=files(500, 400))
    assert "Many photos are coming in" in response.content.decode()


def test_while_the_storage_is_down_the_page_says_so_once(browser: Client) -> None:
    for _fault in range(breaker.faults):
        breaker.count_fault()
    response = submit(browser, photo=files(500, 400))
    assert response.content.decode().count("store photos at the moment") == 2  # on top and at the field


def test_another_sellers_photo_and_what_is_no_id_are_not_taken(browser: Client, other_seller: User) -> None:
    theirs = services.store_photo_draft(seller=other_seller, copies=Copies(b"large", b"small"))
    response = submit(browser, photos=[str(theirs.pk)])
    assert response.status_code == 422 and "no longer here" in response.content.decode()
    submit(browser, photos=["new", "nonsense", ""], photo=files(500))
    assert widths_of(Product.objects.get()) == [500]


def test_a_photo_of_another_product_is_not_taken(browser: Client, seller: User, product: Product) -> None:
    response = submit(browser, photos=keys_of(product))
    assert response.status_code == 422 and "no longer here" in response.content.decode()
    assert Product.objects.get() == product and len(keys_of(product)) == 3


def test_removing_the_last_photo_of_a_product_without_a_title_says_what_to_do(browser: Client, seller: User) -> None:
    draft = services.store_photo_draft(seller=seller, copies=Copies(b"large", b"small"))
    product = services.submit_product(seller=seller, photos=[draft])
    response = edit(browser, product, photos=[str(draft.pk)], remove_photos=[str(draft.pk)])
    assert "Add a photo or a title" in response.content.decode()
    assert keys_of(product) == [str(draft.pk)]
