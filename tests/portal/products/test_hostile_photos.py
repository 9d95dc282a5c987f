"""Every way in refuses what can't be read within the limits, in words, and goes on."""

from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from classifier.table_photos import small_copy
from common.tables.errors import RowError
from portal.products.photos import PhotoError, clean_photo
from tests.support.hostile_pictures import FILE_LIMIT, Hostile, all_hostile, huge_jpeg, plain, repeated_scans
from tests.support.photos import photo_upload, product_photo

HOSTILE = all_hostile()
BY_NAME = {hostile.name: hostile for hostile in HOSTILE}
TOO_MUCH_DATA = "far more data than a photo needs"
TOO_MUCH_MEMORY = "needs more memory than we allow"
# The attacks that were carried out on a running installation.
ATTACKS = {
    "webp bomb: RGB, lossless": (413, "photo_too_large", TOO_MUCH_MEMORY),
    "webp bomb: RGBA, lossy": (413, "photo_too_large", TOO_MUCH_MEMORY),
    "jpeg bomb: CMYK, progressive, subsampling 0": (413, "photo_too_large", TOO_MUCH_MEMORY),
    "jpeg of 1,450,000 empty segments e2": (400, "broken_photo", TOO_MUCH_DATA),
    "jpeg with 11900000 bytes b'\\xff' before a marker": (400, "broken_photo", TOO_MUCH_DATA),
    "png of 900,000 empty teSt after IDAT": (400, "broken_photo", TOO_MUCH_DATA),
    "baseline jpeg that claims 7000 x 7000": (400, "broken_photo", "damaged or incomplete"),
    "png of one row that claims 7071": (400, "broken_photo", "damaged or incomplete"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_by_the_api_in_words(api: APIClient, name: str) -> None:
    status, code, words = ATTACKS[name]
    response = api.post("/api/v1/predictions", {"image": photo_upload(BY_NAME[name].make())}, format="multipart")
    error = response.json()["errors"][0]
    assert (response.status_code, error["code"]) == (status, code)
    assert words in error["detail"]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_by_the_form_and_the_words_are_kept(browser: Client, name: str) -> None:
    photo = photo_upload(BY_NAME[name].make())
    response = browser.post(reverse("product_new"), {"title": "My precious mug", "photo": photo})
    assert ATTACKS[name][2] in response.content.decode()
    assert "My precious mug" in response.content.decode()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_a_row_without_its_photo_in_an_import(name: str) -> None:
    with pytest.raises(RowError) as refused:
        small_copy(BY_NAME[name].make())
    assert refused.value.reason in ("photo too large", "broken photo")


@pytest.mark.parametrize("hostile", HOSTILE[::3], ids=lambda hostile: hostile.name)
def test_every_hostile_picture_is_read_or_refused(hostile: Hostile) -> None:
    content = hostile.make()
    try:
        copies = clean_photo(photo_upload(content))
    except PhotoError as error:
        assert hostile.refused is not False
        assert str(error)
    else:
        assert not hostile.refused
        assert copies.large.startswith(b"\xff\xd8")


def test_a_photo_that_takes_too_long_is_refused_and_the_next_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from common.photo_decoding import upload_decoders

    monkeypatch.setattr(upload_decoders(), "seconds", 0.1)
    slow = repeated_scans(90, plain(size=(2000, 1500), progressive=True))
    with pytest.raises(PhotoError) as refused:
        clean_photo(photo_upload(slow))
    assert (refused.value.code, refused.value.status) == ("slow_photo", 400)
    assert "takes too long" in str(refused.value)
    assert clean_photo(photo_upload(product_photo()))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_an_honest_photo_of_50_megapixels_is_taken(mode: str) -> None:
    assert clean_photo(photo_upload(huge_jpeg(mode)))


def test_the_inputs_that_failed_once_are_refused() -> None:
    """../shared/faults/photos holds them, where it is at hand."""
    folder = Path(__file__).parents[4] / "shared" / "faults" / "photos"
    if not folder.is_dir():
        pytest.skip("the inputs are not at hand")
    for name, code in (("01*", "photo_too_large"), ("08*", "broken_photo")):
        (file,) = folder.glob(name)
        assert file.stat().st_size < FILE_LIMIT
        with pytest.raises(PhotoError) as refused:
            clean_photo(photo_upload(file.read_bytes()))
        assert refused.value.code == code
