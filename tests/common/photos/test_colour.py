"""Check that photos of every colour space, depth and transparency look as they were taken."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.photos.copies import make_copies
from tests.support.hostile_pictures import chunk
from tests.support.icc_profiles import (
    ADOBE_PRIMARIES,
    P3_PRIMARIES,
    PROPHOTO_PRIMARIES,
    SRGB_PRIMARIES,
    cmyk_profile,
    grey_profile,
    rgb_profile,
)

ROUNDING = 3  # levels, which JPEG and the transformation may differ by
SIZE = (64, 48)
COLOUR = (185, 72, 66)


def file_of(
    colour: Any, mode: str = "RGB", format: str = "JPEG", profile: bytes | None = None, **options: Any
) -> bytes:
    buffer = io.BytesIO()
    image = Image.new(mode, options.pop("size", SIZE), colour)
    image.save(buffer, format, icc_profile=profile, **options)
    return buffer.getvalue()


def stored_colour(content: bytes, place: tuple[int, int] = (32, 24)) -> Any:
    """Return one pixel of the large copy, which must be plain sRGB."""
    large, _small = make_copies(content)
    copy = Image.open(io.BytesIO(large))
    assert copy.mode == "RGB" and "icc_profile" not in copy.info
    return copy.getpixel(place)


def srgb(colour: tuple[int, int, int], primaries: Any, gamma: float) -> list[float]:
    """Return a colour in sRGB, by the definition of both spaces (IEC 61966-2-1)."""
    xyz = (np.array(colour) / 255) ** gamma @ np.array(primaries)
    linear = np.clip(xyz @ np.linalg.inv(np.array(SRGB_PRIMARIES)), 0, 1)
    return list(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("primaries", "gamma"), [(P3_PRIMARIES, 2.2), (ADOBE_PRIMARIES, 2.2), (PROPHOTO_PRIMARIES, 1.8)]
)
def test_a_wide_gamut_photo_keeps_its_colours(primaries: Any, gamma: float, format: str) -> None:
    content = file_of(COLOUR, format=format, profile=rgb_profile(primaries, gamma))
    assert stored_colour(content) == pytest.approx(srgb(COLOUR, primaries, gamma), abs=ROUNDING)
    assert stored_colour(content) != pytest.approx(COLOUR, abs=ROUNDING)


def test_a_large_photo_and_one_with_transparency_are_converted_too() -> None:
    profile = rgb_profile(ADOBE_PRIMARIES, 2.2)
    expected = pytest.approx(srgb(COLOUR, ADOBE_PRIMARIES, 2.2), abs=ROUNDING)
    assert stored_colour(file_of(COLOUR, profile=profile, size=(5000, 3000))) == expected
    assert stored_colour(file_of((*COLOUR, 255), "RGBA", "PNG", profile)) == expected


def test_grey_and_press_photos_are_converted_by_their_profiles() -> None:
    linear_half = 255 * (1.055 * (128 / 255) ** (1 / 2.4) - 0.055)
    assert stored_colour(file_of(128, "L", "PNG", grey_profile(1.0))) == pytest.approx([linear_half] * 3, abs=ROUNDING)
    # L* = 60 is 28.1 % of white's luminance (CIE 15), which sRGB encodes as 145.
    assert stored_colour(file_of((255, 0, 0, 0), "CMYK", "JPEG", cmyk_profile(60))) == pytest.approx([145] * 3, abs=5)


@pytest.mark.parametrize(
    "profile", [b"no profile", rgb_profile(P3_PRIMARIES, 2.2)[:200], grey_profile(1.0), bytes(5_000_000)]
)
def test_a_profile_that_does_not_fit_the_photo_is_ignored(profile: bytes) -> None:
    assert stored_colour(file_of(COLOUR, "RGB", "JPEG", profile)) == pytest.approx(COLOUR, abs=ROUNDING)


def test_a_white_product_on_transparency_stays_visible() -> None:
    mug = Image.new("RGBA", SIZE, (255, 255, 255, 0))
    mug.paste((250, 250, 250, 255), (16, 12, 48, 36))
    buffer = io.BytesIO()
    mug.save(buffer, "PNG")
    product, ground = stored_colour(buffer.getvalue()), stored_colour(buffer.getvalue(), (2, 2))
    assert min(product) - max(ground) > 60


def test_a_dark_product_on_transparency_lies_on_white() -> None:
    content = file_of((20, 20, 20, 0), "RGBA", "PNG")
    assert min(stored_colour(content)) > 250


@pytest.mark.parametrize(
    ("depth", "colour", "pixel", "key"),
    [
        (16, 0, struct.pack(">H", 40_000), struct.pack(">H", 40_000)),
        (16, 2, struct.pack(">HHH", 40_000, 0, 25_535), struct.pack(">HHH", 40_000, 0, 25_535)),
        (2, 0, bytes([0b01010101]), struct.pack(">H", 1)),
        (1, 0, bytes([0b11111111]), struct.pack(">H", 1)),
    ],
)
def test_the_transparent_colour_of_a_png_of_any_depth_is_transparent(
    depth: int, colour: int, pixel: bytes, key: bytes
) -> None:
    width = 64
    row = b"\0" + pixel * (width if depth == 16 else width * depth // 8)
    assert stored_colour(flat_png(width, 48, depth, colour, row * 48, key)) == pytest.approx((255,) * 3, abs=ROUNDING)


def flat_png(width: int, height: int, depth: int, colour: int, rows: bytes, key: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)
