"""Check that HEIC photos are read, and what else comes under their names is refused."""

import io
from pathlib import Path

import pytest
from PIL import Image

from common.photos.decoder_pool import DecoderPool
from common.photos.headers import Fault, PictureError, UnsupportedFormat, read_from, read_from_descriptor, read_header

MUG = Path(__file__).parents[2] / "support" / "pictures" / "mug.heic"  # a drawing of 640 x 480, with a red mug


def test_a_heic_photo_is_decoded_to_jpeg_copies() -> None:
    pool = DecoderPool(count=1, memory=300_000_000, seconds=30)
    try:
        with MUG.open("rb") as file:
            header = read_header(read_from_descriptor(file.fileno()), MUG.stat().st_size)
            copies = pool.decode(file.fileno(), header, owner="seller", patience=60)
    finally:
        pool.close()
    assert (header.format, header.width, header.height) == ("HEIF", 640, 480)
    large = Image.open(io.BytesIO(copies.large))
    assert (large.format, large.size) == ("JPEG", (640, 480))
    assert large.getpixel((280, 240)) == pytest.approx((190, 40, 40), abs=4)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_heic_photo_that_ends_early_is_broken(kept: float) -> None:
    from common.photos.copies import make_copies
    from common.photos.decoder_process import register_plugins

    register_plugins()
    content = MUG.read_bytes()
    with pytest.raises(PictureError) as caught:
        make_copies(content[: int(kept * len(content))])
    assert caught.value.fault == Fault.BROKEN


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"GIF89a", "GIF"),
        (b"BM\x00\x00", "BMP"),
        (b"II*\x00\x08", "TIFF"),
        (b"%PDF-1.7", "PDF"),
        (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf", "AVIF"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42", "video"),
        (b"\n  <svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
        (b"<!doctype html><title>404", "HTML"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"a letter", ""),
    ],
)
def test_another_format_is_refused_by_its_name(start: bytes, name: str) -> None:
    content = start.ljust(200, b"\0")
    with pytest.raises(UnsupportedFormat) as caught:
        read_header(read_from(content), len(content))
    assert caught.value.name == name


@pytest.mark.parametrize("boxes", [b"", b"\0" * 4000, (b"\0\0\0\x08meta") * 3, b"\0\0\0\x01meta" + b"\xff" * 8])
def test_a_heic_without_a_size_is_broken(boxes: bytes) -> None:
    content = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + boxes
    with pytest.raises(PictureError) as caught:
        read_header(read_from(content), len(content))
    assert caught.value.fault == Fault.BROKEN
