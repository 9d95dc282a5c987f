import contextlib
import io
import random
import zlib

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile, UploadedFile
from PIL import Image

from portal.products.photos import Photo, PhotoError, clean_photo, store_photo
from tests.support.decoders import all_decoders_at_work
from tests.support.photos import photo_upload, product_photo


def stored(name: str) -> Image.Image:
    return Image.open(io.BytesIO(default_storage.open(name).read()))


def kept(file: UploadedFile) -> Photo:
    photo = Photo.with_new_names()
    store_photo(photo, clean_photo(file))
    return photo


def refused(content: bytes) -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        clean_photo(photo_upload(content))
    return caught.value


@pytest.mark.parametrize(("format", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA")])
@pytest.mark.parametrize("size", [(3000, 2000), (64, 48), (1, 1)])
def test_a_photo_becomes_two_plain_jpegs(format: str, mode: str, size: tuple[int, int]) -> None:
    photo = kept(photo_upload(product_photo(format, size, mode)))
    large, small = stored(photo.large), stored(photo.small)
    assert (large.format, large.mode, small.format, small.mode) == ("JPEG", "RGB", "JPEG", "RGB")
    assert max(large.size) == min(max(size), 1600)
    assert min(small.size) == min(min(size), 256)


@pytest.mark.parametrize("mode", ["P", "LA", "1", "I;16", "RGBA"])
def test_unusual_png_modes_keep_their_look(mode: str) -> None:
    source = Image.new("I;16", (300, 300), 40_000) if mode == "I;16" else Image.new("L", (300, 300), 156).convert(mode)
    buffer = io.BytesIO()
    source.save(buffer, "PNG")
    red, green, blue = stored(kept(photo_upload(buffer.getvalue())).large).getpixel((150, 150))  # type: ignore[misc]
    assert red == green == blue
    assert mode == "1" or abs(red - 156) < 4


def test_transparent_parts_become_white() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (300, 300), (10, 10, 10, 0)).save(buffer, "PNG")
    assert stored(kept(photo_upload(buffer.getvalue())).large).getpixel((5, 5)) == (255, 255, 255)


def test_gps_and_other_metadata_are_gone_and_the_picture_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010F] = "SECRETCAMERA"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    photo = kept(photo_upload(product_photo(exif=exif, comment=b"SECRETCOMMENT")))
    for name in (photo.large, photo.small):
        content = default_storage.open(name).read()
        assert b"SECRET" not in content
        assert not Image.open(io.BytesIO(content)).getexif()
    assert stored(photo.large).size == (480, 640)


def test_names_are_random_and_say_nothing_of_the_upload() -> None:
    names = {kept(SimpleUploadedFile("../../etc/passwd.jpg", product_photo())).large for _ in range(3)}
    assert len(names) == 3
    assert not any("passwd" in name for name in names)


def test_a_webp_still_is_taken() -> None:
    assert clean_photo(photo_upload(product_photo("WEBP")))


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused_whatever_they_are_called(format: str) -> None:
    error = refused(product_photo(format, (64, 64)))
    assert error.status == 415
    assert "JPEG, PNG, WebP or HEIC" in str(error)


@pytest.mark.parametrize("content", [b"<svg onload=alert(1)>", b"%PDF-1.7", b"MZ\x90", b"<html><script>", b"\0" * 500])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    assert refused(content).status == 415


def test_an_empty_file_is_refused() -> None:
    assert refused(b"").code == "empty_photo"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_file_is_refused(format: str) -> None:
    whole = product_photo(format, (800, 800))
    assert refused(whole[: len(whole) // 2]).code in ("broken_photo", "unsupported_photo")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_garbage_inside_a_file_never_escapes_as_another_error(format: str) -> None:
    whole, dice = bytearray(product_photo(format, (200, 200))), random.Random(7)
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(8):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        with contextlib.suppress(PhotoError):
            clean_photo(photo_upload(bytes(broken)))


@pytest.mark.parametrize("entry", [b"\x01\x01\x00\x05", b"\x01\x1a\x00\x01", b"\x01\x32\x00\x05"])
def test_metadata_made_to_break_the_decoder_are_a_broken_photo(entry: bytes) -> None:
    exif = Image.Exif()
    exif.endian = ">"
    exif[0x112], exif[0x11A] = 6, 72.0  # turned; dots per inch, a ratio
    metadata = exif.tobytes().replace(b"\x01\x1a\x00\x05", entry)  # another tag, or another type
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "WEBP", exif=metadata)
    assert refused(file.getvalue()).code == "broken_photo"


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_an_animated_picture_is_refused(format: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format, save_all=True, append_images=frames[1:], duration=100)
    assert refused(buffer.getvalue()).code == "animated_photo"


def test_a_phones_jpeg_with_several_views_is_taken() -> None:
    buffer = io.BytesIO()
    first, second = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    red, _green, blue = stored(kept(photo_upload(buffer.getvalue())).large).getpixel((30, 30))  # type: ignore[misc]
    assert red > 200 > blue


def test_a_jpeg_with_hundreds_of_scans_is_refused_before_it_is_decoded() -> None:
    whole = product_photo(size=(200, 200), progressive=True)
    last = whole.rindex(b"\xff\xda")
    assert clean_photo(photo_upload(whole))
    assert refused(whole[:-2] + whole[last:-2] * 200 + whole[-2:]).code == "broken_photo"


def test_when_too_many_photos_come_in_at_once_some_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.photo_decoding.LONGEST_TURN", 0.01)
    with all_decoders_at_work():
        assert refused(product_photo()).status == 503
    assert clean_photo(photo_upload())


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be huge and holds next to nothing."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")):
        chunks += len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    assert refused(png_header(*size)).status == 413


def test_a_file_over_the_limit_is_refused_with_both_figures() -> None:
    error = refused(b"\xff\xd8\xff" + b"x" * 12_400_000)
    assert error.status == 413
    assert str(error) == "This photo is 13 MB; the limit is 12 MB. Make it smaller or take a new one."


def test_a_splinter_is_refused() -> None:
    assert refused(product_photo(size=(2000, 20))).code == "narrow_photo"
