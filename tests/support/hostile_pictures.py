"""Make pictures that exhaust, delay or confuse a decoder. Each is made on demand."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

from PIL import Image

SIDE = 7071  # squared: just under 50 megapixels
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG colour type
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
FILE_LIMIT = 11_900_000
SEED = 14


@dataclass(frozen=True)
class Hostile:
    """A picture and whether it must be refused; None where either answer is right."""

    name: str
    make: Callable[[], bytes]
    refused: bool | None = None


def all_hostile() -> list[Hostile]:
    """Return every kind, at least 150 pictures."""
    return [
        *png_bombs(),
        *jpeg_bombs(),
        *webp_bombs(),
        *floods(),
        *metadata_bombs(),
        *lies(),
        *truncated(),
        *animations(),
        *corrupted(),
    ]


# PNG, by hand: encoders refuse to write what is wanted here


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, interlaced: bool = False, rows: int | None = None,
    before: bytes = b"", after: bytes = b"", idat_size: int = 2**30,
) -> bytes:  # fmt: skip
    """Return a PNG of one grey value, or black if interlaced; `rows` of its rows only, if given."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    count = height if rows is None else rows
    row = b"\0" + (b"\0" if interlaced else b"\x55") * -(-width * SAMPLES[colour] * depth // 8) if count else b""
    packer = zlib.compressobj(6)
    # The rows of an interlaced picture are shorter and twice as many; zeros fit them however they are cut.
    data = b"".join(packer.compress(row) for _ in range(count * 2 if interlaced else count)) + packer.flush()
    palette = b""
    if colour == 3:
        palette = chunk(b"PLTE", (bytes(range(256)) * 3)[: 3 * 2**depth]) + chunk(b"tRNS", bytes(2**depth))
    body = b"".join(chunk(b"IDAT", data[at : at + idat_size]) for at in range(0, len(data), idat_size))
    return PNG_SIGNATURE + chunk(b"IHDR", header) + before + palette + body + after + chunk(b"IEND", b"")


def png_bombs() -> Iterator[Hostile]:
    for colour, depths in DEPTHS.items():
        for depth, interlaced in product(depths, (False, True)):
            name = f"png bomb: colour type {colour}, {depth} bits{', interlaced' if interlaced else ''}"
            yield Hostile(name, partial(png, SIDE, SIDE, depth=depth, colour=colour, interlaced=interlaced))
    for width, height in ((10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 100), (100, 0)):
        yield Hostile(f"png of {width} x {height}", partial(png, width, height, rows=0), refused=True)
    yield Hostile("png splinter", partial(png, 20_000, 500), refused=True)


# JPEG


@cache
def plain(format: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (640, 480), **options: Any) -> bytes:
    """Return an honest picture with some detail in it."""
    dice = random.Random(SEED)
    small = Image.frombytes("RGB", (32, 24), dice.randbytes(32 * 24 * 3))
    buffer = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


@cache
def huge_jpeg(mode: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((SIDE, SIDE)).convert(mode).save(buffer, "JPEG", quality=30, **options)
    return buffer.getvalue()


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """Let a JPEG claim another size."""
    frame = next(at for at in (jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2")) if at > 0)
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def with_segments(jpeg: bytes, segments: bytes) -> bytes:
    return jpeg[:2] + segments + jpeg[2:]


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def repeated_scans(count: int, jpeg: bytes) -> bytes:
    """Repeat the last scan of a progressive JPEG."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * count + jpeg[-2:]


def jpeg_bombs() -> Iterator[Hostile]:
    for mode, progressive, subsampling in product(("L", "RGB", "CMYK"), (False, True), (0, 2)):
        name = f"jpeg bomb: {mode}, {'progressive' if progressive else 'baseline'}, subsampling {subsampling}"
        yield Hostile(name, partial(huge_jpeg, mode, progressive=progressive, subsampling=subsampling))
    for count in (50, 90, 200, 2000):
        for mode in ("RGB", "CMYK"):
            make = partial(lambda count, mode: repeated_scans(count, plain(mode=mode, progressive=True)), count, mode)
            yield Hostile(f"jpeg of {count} more scans, {mode}", make, refused=True if count > 100 else None)
    for mode in ("L", "RGB", "CMYK"):
        make = partial(lambda mode: repeated_scans(60, huge_jpeg(mode, progressive=True)), mode)
        yield Hostile(f"jpeg bomb of 60 more scans, {mode}", make)


# WebP


def webp_bombs() -> Iterator[Hostile]:
    for mode, lossless in product(("RGB", "RGBA"), (True, False)):
        name = f"webp bomb: {mode}, {'lossless' if lossless else 'lossy'}"
        yield Hostile(name, partial(flat_webp, mode, (SIDE, SIDE), lossless), refused=True)
        yield Hostile(f"{name}, 12 megapixels", partial(flat_webp, mode, (4000, 3000), lossless))
        yield Hostile(f"{name}, splinter", partial(flat_webp, mode, (16_383, 10), lossless), refused=True)


@cache
def flat_webp(mode: str, size: tuple[int, int], lossless: bool) -> bytes:
    buffer = io.BytesIO()
    colour = (200, 30, 30, 128)[: len(mode)]
    Image.new(mode, size, colour).save(buffer, "WEBP", lossless=lossless, method=0)
    return buffer.getvalue()


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


# Floods


def floods() -> Iterator[Hostile]:
    for marker in (0xE0, 0xE1, 0xE2, 0xED, 0xFE):
        make = partial(lambda marker: with_segments(plain(), segment(marker, b"") * 1_450_000), marker)
        yield Hostile(f"jpeg of 1,450,000 empty segments {marker:x}", make, refused=True)
    yield Hostile(
        "jpeg of 150,000 quantisation tables",
        lambda: with_segments(plain(), segment(0xDB, b"\0" + b"\1" * 64) * 150_000),
        refused=True,
    )
    for byte, count in product((b"\xff", b"\0", b"x", b"\xff\0"), (200_000, FILE_LIMIT)):
        make = partial(lambda byte, count: with_segments(plain(), byte * (count // len(byte))), byte, count)
        yield Hostile(f"jpeg with {count} bytes {byte!r} before a marker", make, refused=True)
    end = plain()[:-2]
    yield Hostile("jpeg with 11.9 MB of FF before its end", lambda: end + b"\xff" * FILE_LIMIT + b"\xd9")
    yield Hostile("jpeg with 11.9 MB behind its end", lambda: plain() + b"\xff\xe2\0\2" * (FILE_LIMIT // 4))
    for kind in (b"teSt", b"tEXt", b"zTXt", b"iTXt", b"gAMA"):
        for place in ("before", "after"):
            more: dict[str, Any] = {place: chunk(kind, b"") * 900_000}
            yield Hostile(f"png of 900,000 empty {kind.decode()} {place} IDAT", partial(_png, more), refused=True)
    yield Hostile(
        "png in IDAT of one byte",
        lambda: png(1000, 1000, idat_size=1, after=chunk(b"IDAT", b"") * 900_000),
        refused=True,
    )
    yield Hostile("webp of 900,000 chunks", lambda: plain("WEBP") + b"teSt\0\0\0\0" * 900_000)
    chunks = [(b"teSt", b"")] * 900_000
    yield Hostile("webp of 900,000 chunks before the picture", lambda: riff(*chunks, (b"VP8L", b"/")), refused=True)


def _png(more: dict[str, Any]) -> bytes:
    return png(320, 240, **more)


# Metadata


def metadata_bombs() -> Iterator[Hostile]:
    bomb = zlib.compress(bytes(60_000_000), 9)
    for count in (1, 20, 150):
        make = partial(lambda count: png(320, 240, before=chunk(b"zTXt", b"key\0\0" + bomb) * count), count)
        yield Hostile(f"png with {count} zTXt bombs", make)
    yield Hostile("png with an iCCP bomb", lambda: png(320, 240, before=chunk(b"iCCP", b"name\0\0" + bomb)))
    text = chunk(b"iTXt", b"key\0\1\0\0\0" + bomb)
    yield Hostile("png with 50 iTXt bombs", lambda: png(320, 240, after=text * 50))
    exif = segment(0xE1, b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\xff\xff" + b"\x12\x01\x03\0\1\0\0\0\6\0\0\0" * 5000)
    for count in (1, 190):
        make = partial(lambda count: with_segments(plain(), exif * count), count)
        yield Hostile(f"jpeg with {count} huge EXIF segments", make)
    loop = segment(0xE1, b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\1\0" + b"\x69\x87\4\0\1\0\0\0\x08\0\0\0" + b"\x08\0\0\0")
    yield Hostile("jpeg whose EXIF points at itself", lambda: with_segments(plain(), loop))
    profile = b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 180]) + bytes(65_000)) for n in range(1, 181))
    yield Hostile("jpeg with an ICC profile of 11.7 MB", lambda: with_segments(plain(), profile))
    views = (
        b"MPF\0II*\0\x08\0\0\0\2\0" + b"\1\xb0\4\0\1\0\0\0\xff\xff\xff\x7f" + b"\2\xb0\7\0\xff\xff\xff\x7f\x26\0\0\0"
    )
    yield Hostile("mpo with two thousand million views", lambda: with_segments(plain(), segment(0xE2, views)))
    yield Hostile("mpo in mpo", nested_mpo, refused=False)


def nested_mpo() -> bytes:
    views = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    views[0].save(buffer, "MPO", save_all=True, append_images=views[1:])
    return buffer.getvalue() * 20


# What claims to be something else


def lies() -> Iterator[Hostile]:
    for progressive, (width, height) in product((False, True), ((7000, 7000), (3000, 2000), (640, 960))):
        make = partial(lambda p, w, h: with_size(plain(progressive=p), w, h), progressive, width, height)
        kind = "progressive" if progressive else "baseline"
        yield Hostile(f"{kind} jpeg that claims {width} x {height}", make, refused=True)
    for side in (700, SIDE):
        yield Hostile(f"png of one row that claims {side}", partial(png, side, side, rows=1), refused=True)
        yield Hostile(
            f"grey png without rows that claims {side}", partial(png, side, side, colour=0, rows=0), refused=True
        )
    for width in (1000, SIDE):
        canvas = b"\x10\0\0\0" + (width - 1).to_bytes(3, "little") * 2
        picture = flat_webp("RGBA", (16, 16), lossless=True)[20:-1]
        make = partial(riff, (b"VP8X", canvas), (b"VP8L", picture))
        yield Hostile(f"webp with a canvas of {width} around 16 pixels", make, refused=True)
    twice = plain()
    frame = twice.find(b"\xff\xc0")
    copy = twice[frame : frame + 19]
    yield Hostile("jpeg with two frames", lambda: twice[:frame] + copy + with_size(twice, 9, 9)[frame:], refused=True)
    zero = bytearray(twice)
    zero[frame + 11] = 0
    yield Hostile("jpeg without samples", lambda: bytes(zero), refused=True)
    for start in (
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"\0\0\1\0",
        b"%PDF-1.7",
        b"<svg",
        b"8BPS",
        b"\x97JB2",
        b"\0\0\0\x1cftypavif",
    ):
        yield Hostile(f"other format {start!r}", partial(bytes.ljust, start, 5000, b"\0"), refused=True)
    for start in (b"\xff\xd8\xff", PNG_SIGNATURE, b"RIFF\xff\xff\0\0WEBPVP8L", b"RIFF\xff\xff\0\0WEBPVP8 "):
        yield Hostile(f"nothing behind {start!r}", partial(bytes.ljust, start, 5000, b"\0"), refused=True)


def truncated() -> Iterator[Hostile]:
    kinds: dict[str, dict[str, Any]] = {
        "jpeg": {}, "progressive jpeg": {"progressive": True}, "cmyk jpeg": {"mode": "CMYK"},
        "restarting jpeg": {"restart_marker_blocks": 8},
        "png": {"format": "PNG"}, "palette png": {"format": "PNG", "mode": "P"},
        "webp": {"format": "WEBP"}, "lossless webp": {"format": "WEBP", "lossless": True},
        "transparent webp": {"format": "WEBP", "mode": "RGBA"},
    }  # fmt: skip
    for (name, options), share in product(kinds.items(), (0.1, 0.5, 0.9)):
        whole = partial(plain, **options)
        make = partial(lambda whole, share: whole()[: int(len(whole()) * share)], whole, share)
        yield Hostile(f"{share:.0%} of a {name}", make, refused=True)
        if "jpeg" in name:
            ended = partial(lambda make: make() + b"\xff\xd9", make)
            yield Hostile(f"{share:.0%} of a {name} with an end marker", ended, refused=True)


def animations() -> Iterator[Hostile]:
    for format, count, side in (("PNG", 3, 64), ("WEBP", 3, 64), ("WEBP", 200, 640), ("PNG", 200, 640)):
        yield Hostile(f"{format} of {count} frames", partial(animated, format, count, side), refused=True)


@cache
def animated(format: str, count: int, side: int) -> bytes:
    frames = [Image.new("RGB", (side, side), (number * 97 % 256, 0, 9)) for number in range(count)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format, save_all=True, append_images=frames[1:], duration=50)
    return buffer.getvalue()


def corrupted() -> Iterator[Hostile]:
    kinds: tuple[dict[str, Any], ...] = (
        {}, {"progressive": True}, {"format": "PNG"}, {"format": "WEBP"}, {"format": "WEBP", "lossless": True},
    )  # fmt: skip
    for number, options in product(range(6), kinds):
        yield Hostile(f"corrupted {options} {number}", partial(damaged, number, options))


def damaged(seed: int, options: dict[str, Any]) -> bytes:
    dice = random.Random(seed)
    content = bytearray(plain(**options))
    for _byte in range(dice.choice((3, 30))):
        content[dice.randrange(12, len(content))] = dice.randrange(256)
    return bytes(content)
