"""Copies have the same pixels as if every step had been done at full size, and data that end early are an error."""

import io
import random
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageOps

from common.photos.copies import make_copies
from common.photos.headers import LARGE_SIDE, Fault, PictureError, read_from, read_header
from tests.support.hostile_pictures import (
    all_hostile,
    chunk,
    nested_mpo,
    plain,
    png,
    segment,
    with_segments,
)

MOST_LEVELS, MOST_LEVELS_ON_EDGES = 2, 16


def drawn(size: tuple[int, int]) -> Image.Image:
    """A picture with some detail and every colour."""
    dice = random.Random(5)
    small = Image.frombytes("RGB", (24, 18), dice.randbytes(24 * 18 * 3))
    return small.resize(size, Image.Resampling.BICUBIC)


def with_alpha(size: tuple[int, int], mode: str) -> Image.Image:
    picture = drawn(size).convert(mode)
    picture.putalpha(Image.radial_gradient("L").resize(size))
    return picture


def palette_with_transparency(size: tuple[int, int]) -> Image.Image:
    picture = drawn(size).quantize(64)
    picture.info["transparency"] = bytes(range(0, 256, 4))
    return picture


def deep_grey(size: tuple[int, int]) -> Image.Image:
    row = b"".join((number * 65535 // size[0]).to_bytes(2, "little") for number in range(size[0]))
    return Image.frombytes("I;16", size, row * size[1])


def turned(size: tuple[int, int]) -> Image.Image:
    picture = drawn(size)
    picture.getexif()[0x0112] = 6
    return picture


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, exif=picture.getexif(), **options)
    return buffer.getvalue()


def reference(content: bytes) -> tuple[Image.Image, Image.Image]:
    """Do everything at full size, one step after the other."""
    picture = Image.open(io.BytesIO(content))
    side = LARGE_SIDE
    scale = side / max(picture.size)
    picture.draft("RGB", (round(picture.width * scale), round(picture.height * scale)))
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode == "I;16":
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGB", picture.size, "white")
        ground.paste(picture, mask=picture.getchannel("A"))
        picture = ground
    large = picture.convert("RGB")
    large.thumbnail((side, side), Image.Resampling.LANCZOS)
    scale = 256 / min(large.size)
    small = large
    if scale < 1:
        size = round(large.width * scale), round(large.height * scale)
        small = large.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return compressed(large, 85), compressed(small, 90)


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


SIZES = ((7001, 601), (1203, 3601), (301, 217))
KINDS: dict[str, Any] = {
    "jpeg": lambda size: saved(drawn(size), "JPEG"),
    "progressive jpeg": lambda size: saved(drawn(size), "JPEG", progressive=True),
    "progressive jpeg without subsampling": lambda size: saved(drawn(size), "JPEG", progressive=True, subsampling=0),
    "grey jpeg": lambda size: saved(drawn(size).convert("L"), "JPEG"),
    "cmyk jpeg": lambda size: saved(drawn(size).convert("CMYK"), "JPEG"),
    "progressive cmyk jpeg": lambda size: saved(drawn(size).convert("CMYK"), "JPEG", progressive=True),
    "jpeg with restart markers": lambda size: saved(drawn(size), "JPEG", restart_marker_blocks=5),
    "turned jpeg": lambda size: saved(turned(size), "JPEG"),
    "turned png": lambda size: saved(turned(size), "PNG", compress_level=1),
    "png": lambda size: saved(drawn(size), "PNG", compress_level=1),
    "transparent png": lambda size: saved(with_alpha(size, "RGB"), "PNG", compress_level=1),
    "grey transparent png": lambda size: saved(with_alpha(size, "L"), "PNG", compress_level=1),
    "palette png with transparency": lambda size: saved(palette_with_transparency(size), "PNG", compress_level=1),
    "png with a transparent colour": lambda size: saved(drawn(size), "PNG", compress_level=1, transparency=(9, 9, 9)),
    "black and white png": lambda size: saved(drawn(size).convert("1"), "PNG"),
    "16-bit png": lambda size: saved(deep_grey(size), "PNG"),
    "webp": lambda size: saved(drawn(size), "WEBP", method=0),
    "transparent lossless webp": lambda size: saved(with_alpha(size, "RGB"), "WEBP", method=0, lossless=True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_copies_have_the_pixels_of_a_full_size_reference(kind: str, size: tuple[int, int]) -> None:
    content = KINDS[kind](size)
    for ours, expected in zip(make_copies(content), reference(content), strict=True):
        copy = Image.open(io.BytesIO(ours))
        assert copy.size == expected.size
        difference = ImageChops.difference(copy.convert("RGB"), expected.convert("RGB"))
        # What is so large that it is reduced first is turned afterwards: the last, narrower block lies on another edge.
        most = MOST_LEVELS if kind != "turned png" or max(size) < 4 * LARGE_SIDE else MOST_LEVELS_ON_EDGES
        assert max(high for _low, high in difference.getextrema()) <= most


@pytest.mark.parametrize(("colour", "depth"), [(0, 16), (2, 16), (4, 16), (6, 16), (0, 1), (3, 2)])
@pytest.mark.parametrize("interlaced", [False, True])
def test_pngs_of_every_depth_are_read(colour: int, depth: int, interlaced: bool) -> None:
    assert make_copies(png(301, 203, depth=depth, colour=colour, interlaced=interlaced))


HONEST: dict[str, Any] = {
    "an mpo": nested_mpo,
    "a large ICC profile": lambda: with_segments(
        plain(), b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 30]) + bytes(65_000)) for n in range(1, 31))
    ),
    "90 segments as Photoshop writes them": lambda: with_segments(
        plain(), segment(0xED, b"Photoshop 3.0\0" * 999) * 90
    ),
    "some fill bytes": lambda: with_segments(plain(), b"\xff" * 2000),
    "a trailer behind the end": lambda: plain() + bytes(200_000),
    "no end marker": lambda: plain()[:-2],
    "small chunks of data": lambda: png(900, 900, idat_size=64),
    "200 texts": lambda: png(100, 100, before=chunk(b"tEXt", b"key\0value") * 200),
}


@pytest.mark.parametrize("kind", HONEST)
def test_what_phones_and_programs_write_is_read(kind: str) -> None:
    assert make_copies(HONEST[kind]())


MUST_BE_REFUSED = [h for h in all_hostile() if h.refused and ("of a" in h.name or "that claims" in h.name)]


@pytest.mark.parametrize("hostile", MUST_BE_REFUSED, ids=lambda hostile: hostile.name)
def test_data_that_end_early_are_an_error(hostile: Any) -> None:
    with pytest.raises(PictureError) as caught:
        make_copies(hostile.make())
    assert caught.value.fault == Fault.BROKEN


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.95])
def test_a_progressive_jpeg_that_is_cut_anywhere_is_broken(share: float) -> None:
    whole = plain(size=(1200, 900), progressive=True)
    with pytest.raises(PictureError):
        make_copies(whole[: int(len(whole) * share)] + b"\xff\xd9")


def test_headers_say_what_decoding_costs() -> None:
    for content, cheapest, dearest in (
        (plain(size=(1600, 1200)), 8, 60),
        (png(7000, 7000, colour=6), 196, 320),
        (png(7000, 7000, colour=0, depth=8), 49, 160),
    ):
        memory = read_header(read_from(content), len(content)).decoding_memory()
        assert cheapest < memory / 1_000_000 < dearest
