"""Read a picture file's format and size, and estimate the cost of decoding it, without decoding anything.

The web process runs this over hostile bytes: the work is bounded by the limits below, whatever the file holds.
"""

import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from common.photos import heif

LARGE_SIDE = 1600  # the long side of the copy for people
# What is still far larger than its copy is first reduced by whole steps to this many times its size, then resampled.
GAP = 2.0
STRIP_PIXELS = 1_000_000  # a decoded picture is converted to RGB in strips of this size

# An ordinary file has tens of segments. One of 12 MB that consists of the longest segments has 190.
MOST_SEGMENTS = 1_000
MOST_FILL_BYTES = 65_536  # between two JPEG segments
MOST_WEBP_CHUNKS = 1_000

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
# No "+" behind the FF: over a run of them it would try every length from every start.
MARKER = re.compile(rb"\xff([\x01-\xfe])")
FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # SOF0 to SOF15
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
START_OF_SCAN = 0xDA
END_OF_IMAGE = 0xD9
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
# By PNG colour type and bit depth: the bytes of a pixel in Pillow's memory.
PNG_PIXEL_BYTES = {
    **{(0, depth): 1 for depth in (1, 2, 4, 8)},
    (0, 16): 2,
    **{(3, depth): 1 for depth in (1, 2, 4, 8)},
    **{(colour, depth): 4 for colour in (2, 4, 6) for depth in (8, 16)},
}
# libwebp composes frames on two canvases and hands out a third, Pillow copies it, and lossless data need one more. The
# two canvases and the copy are kept.
WEBP_PIXEL_BYTES, WEBP_LOSSLESS_PIXEL_BYTES, WEBP_KEPT_PIXEL_BYTES = 16, 20, 12
# libheif decodes tiles into planes and converts those to interleaved pixels, which Pillow copies.
HEIF_PIXEL_BYTES, HEIF_KEPT_PIXEL_BYTES = 10, 4
KEPT_PIXEL_BYTES = {"WEBP": WEBP_KEPT_PIXEL_BYTES, "HEIF": HEIF_KEPT_PIXEL_BYTES}
# By the first bytes of a file: the name of a format that is not read. An "ftyp" comes after a length of four bytes.
SIGNATURES = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"\0\0\1\0": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"<svg": "SVG",
    b"<?xml": "SVG",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
    b"PK\x03\x04": "ZIP",
}

# How many copies of the file are in memory while it is decoded.
FILE_COPIES = {"JPEG": 3, "PNG": 1, "WEBP": 2, "HEIF": 3}

Read = Callable[[int, int], bytes]  # offset, number of bytes -> what the file has there


class Fault(StrEnum):
    """The reason for which a picture is rejected."""

    UNSUPPORTED = "unsupported"  # of another format
    BROKEN = "broken"  # damaged or incomplete
    ANIMATED = "animated"
    TOO_MANY_PARTS = "too many parts"  # segments, chunks or scans made to cost a decoder minutes
    TOO_MANY_PIXELS = "too many pixels"
    TOO_MUCH_MEMORY = "too much memory"
    TOO_SLOW = "too slow"


class PictureError(Exception):
    """A picture that is rejected. `fault` is the reason; the message gives details for logs and error files."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


class UnsupportedFormat(PictureError):
    """A file of a format that is not read; `name` is empty where the format is unknown."""

    def __init__(self, name: str) -> None:
        super().__init__(Fault.UNSUPPORTED, f"{name or 'unknown'} format")
        self.name = name


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a picture file."""

    format: str  # as Pillow names it: JPEG, PNG, WEBP or HEIF
    width: int
    height: int
    file_bytes: int
    pixel_bytes: int  # of a decoded pixel in memory
    coefficient_bytes: int = 0  # of a JPEG of several scans: its decoder holds all coefficients until the last scan
    component_ids: bytes = b""  # of a JPEG, in the order of its frame
    scan_at: int = 0  # the place of a JPEG's first start-of-scan marker
    bit_depth: int = 8  # of a PNG

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def draft_scale(self) -> int:
        """The factor by which a JPEG is reduced while it is decoded: 1, 2, 4 or 8."""
        if self.format != "JPEG":
            return 1
        large = large_size(self.width, self.height)
        wanted = min(self.width // large[0], self.height // large[1])
        return max(scale for scale in (1, 2, 4, 8) if scale <= max(wanted, 1))

    def decoding_memory(self) -> int:
        """Return the maximum number of bytes that decoding takes, from the file to the two copies."""
        width, height = ceil(self.width / self.draft_scale), ceil(self.height / self.draft_scale)
        step_x, step_y = reduction(width, height)
        reduced = ceil(width / step_x) * ceil(height / step_y)
        large_width, large_height = large_size(width, height)
        decoded = width * height * self.pixel_bytes
        kept = width * height * KEPT_PIXEL_BYTES.get(self.format, self.pixel_bytes)
        strips = 3 * 4 * min(width * height, STRIP_PIXELS + width * step_y)
        # Resampling scales the rows first: its buffer is as wide as the copy and as high as the source.
        resampled = 4 * large_width * (ceil(height / step_y) + large_height)
        phases = (self.coefficient_bytes + decoded, kept + strips + 4 * reduced, 4 * reduced + resampled)
        return FILE_COPIES[self.format] * self.file_bytes + max(phases)


def read_header(read: Read, file_bytes: int) -> Header:
    """Read the header of a JPEG, PNG, WebP or HEIC file. Raises PictureError."""
    start = read(0, 64)
    if start.startswith(JPEG_SIGNATURE):
        header = _read_jpeg(read, file_bytes)
    elif start.startswith(PNG_SIGNATURE):
        header = _read_png(start, file_bytes)
    elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        header = _read_webp(read, file_bytes)
    elif heif.is_heic(start):
        header = _read_heic(read, file_bytes)
    else:
        raise UnsupportedFormat(_unread_format(start))
    if not header.pixels:
        raise PictureError(Fault.BROKEN, f"{header.width} x {header.height} pixels")
    return header


def read_from(content: bytes) -> Read:
    return lambda offset, count: content[offset : offset + count]


def read_from_descriptor(descriptor: int) -> Read:
    return lambda offset, count: os.pread(descriptor, count, offset)


def large_size(width: int, height: int) -> tuple[int, int]:
    """Return the size of the large copy: the long side at most LARGE_SIDE, the ratio as near as whole pixels allow."""
    if max(width, height) <= LARGE_SIDE:
        return width, height
    if width >= height:
        return LARGE_SIDE, _rounded(LARGE_SIDE * height / width, lambda side: abs(width / height - LARGE_SIDE / side))
    return _rounded(LARGE_SIDE * width / height, lambda side: abs(width / height - side / LARGE_SIDE)), LARGE_SIDE


def reduction(width: int, height: int) -> tuple[int, int]:
    """Return by which whole steps a decoded picture is reduced before it is resampled to its large copy."""
    large_width, large_height = large_size(width, height)
    return max(1, int(width / large_width / GAP)), max(1, int(height / large_height / GAP))


def _rounded(side: float, distance: Callable[[int], float]) -> int:
    return min((max(1, int(side)), max(1, ceil(side))), key=distance)


def _read_png(start: bytes, file_bytes: int) -> Header:
    if start[12:16] != b"IHDR" or len(start) < 26:
        raise PictureError(Fault.BROKEN, "a PNG that doesn't begin with IHDR")
    width, height, depth, colour = struct.unpack_from(">IIBB", start, 16)
    if (colour, depth) not in PNG_PIXEL_BYTES:
        raise PictureError(Fault.BROKEN, f"colour type {colour} with {depth} bits")
    return Header("PNG", width, height, file_bytes, PNG_PIXEL_BYTES[colour, depth], bit_depth=depth)


def _read_webp(read: Read, file_bytes: int) -> Header:
    size: tuple[int, int] | None = None
    position = 12
    for _chunk in range(MOST_WEBP_CHUNKS):
        head = read(position, 18)
        if len(head) < 18:
            break
        kind, length = head[:4], int.from_bytes(head[4:8], "little")
        if kind == b"VP8X":
            size = int.from_bytes(head[12:15], "little") + 1, int.from_bytes(head[15:18], "little") + 1
        if kind == b"VP8L":
            bits = int.from_bytes(head[9:13], "little")
            size = size or ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
            return Header("WEBP", *size, file_bytes, WEBP_LOSSLESS_PIXEL_BYTES)
        if kind == b"VP8 ":
            sides = read(position + 14, 4)
            size = size or (int.from_bytes(sides[:2], "little") & 0x3FFF, int.from_bytes(sides[2:], "little") & 0x3FFF)
            return Header("WEBP", *size, file_bytes, WEBP_PIXEL_BYTES)
        if kind == b"ANMF" and size:
            return Header("WEBP", *size, file_bytes, WEBP_LOSSLESS_PIXEL_BYTES)
        position += 8 + length + length % 2
    else:
        raise PictureError(Fault.TOO_MANY_PARTS, f"more than {MOST_WEBP_CHUNKS} chunks before the picture")
    raise PictureError(Fault.BROKEN, "a WebP without a picture")


def _read_heic(read: Read, file_bytes: int) -> Header:
    size = heif.picture_size(read(0, heif.LARGEST_META))
    if size is None:
        raise PictureError(Fault.BROKEN, "a HEIC without the size of its picture")
    return Header("HEIF", *size, file_bytes, HEIF_PIXEL_BYTES)


def _unread_format(start: bytes) -> str:
    """Return the name of a format that is not read; an empty one where it is unknown."""
    if heif.brands(start) & heif.AVIF_BRANDS:
        return "AVIF"
    begins = start.removeprefix(b"\xef\xbb\xbf").lstrip() or start
    for signature, name in SIGNATURES.items():
        if start.startswith(signature) or begins[: len(signature)].lower() == signature.lower():
            return name
    return "video" if heif.brands(start) else ""


def _read_jpeg(read: Read, file_bytes: int) -> Header:
    position, skipped = 2, 0
    frame = b""
    is_progressive = False
    for _segment in range(MOST_SEGMENTS):
        marker, start = _next_marker(read, position, MOST_FILL_BYTES - skipped)
        skipped += start - position
        position = start + 2
        if marker in WITHOUT_LENGTH:
            continue
        length = int.from_bytes(read(position, 2), "big")
        if marker == END_OF_IMAGE or length < 2:
            break
        if marker == START_OF_SCAN:
            if not frame:
                break
            components_in_scan = read(position + 2, 1)
            is_one_scan = not is_progressive and components_in_scan == frame[5:6]
            return _jpeg_header(frame, file_bytes, is_one_scan, start)
        if marker in FRAMES:
            if frame:
                break
            frame = read(position + 2, length - 2)
            is_progressive = marker in PROGRESSIVE
        position += length
    else:
        raise PictureError(Fault.TOO_MANY_PARTS, f"more than {MOST_SEGMENTS} segments before the picture")
    raise PictureError(Fault.BROKEN, "a JPEG without a picture")


def _next_marker(read: Read, position: int, most_skipped: int) -> tuple[int, int]:
    """Return the next marker and the place of its FF."""
    head = read(position, 2)
    if len(head) == 2 and head[0] == 0xFF and 0 < head[1] < 0xFF:
        return head[1], position
    found = MARKER.search(read(position, most_skipped + 2))
    if found:
        return found[1][0], position + found.start(1) - 1
    if len(head) < 2:
        raise PictureError(Fault.BROKEN, "the file ends before the picture")
    raise PictureError(Fault.TOO_MANY_PARTS, f"more than {MOST_FILL_BYTES} bytes between segments")


def _jpeg_header(frame: bytes, file_bytes: int, is_one_scan: bool, scan_at: int) -> Header:
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        raise PictureError(Fault.BROKEN, "a cut frame header")
    height, width, count = struct.unpack_from(">HHB", frame, 1)
    factors = [(byte >> 4, byte & 15) for byte in frame[7 : 7 + 3 * count : 3]]
    if not factors or min(min(pair) for pair in factors) < 1:
        raise PictureError(Fault.BROKEN, "a component without samples")
    pixel_bytes = 1 if count == 1 else 4
    coefficients = 0 if is_one_scan else _coefficient_bytes(width, height, factors)
    ids = frame[6 : 6 + 3 * count : 3]
    return Header("JPEG", width, height, file_bytes, pixel_bytes, coefficients, ids, scan_at)


def _coefficient_bytes(width: int, height: int, factors: Sequence[tuple[int, int]]) -> int:
    """Return the bytes of all blocks of 64 coefficients with two bytes each."""
    across, down = max(x for x, _y in factors), max(y for _x, y in factors)
    units = ceil(width / (8 * across)) * ceil(height / (8 * down))
    return units * sum(x * y for x, y in factors) * 128
