"""Read the size of a HEIF picture, such as an iPhone's HEIC, without decoding it (ISO/IEC 23008-12)."""

import struct
from collections.abc import Iterator

LARGEST_META = 1_000_000  # bytes; a phone's is some kB
MOST_BOXES = 2_000
DEPTH = ("meta", "iprp", "ipco")  # where the boxes of sizes are
HEVC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
AVIF_BRANDS = {b"avif", b"avis"}
GENERIC_BRANDS = {b"mif1", b"msf1"}


def brands(start: bytes) -> set[bytes]:
    """Return the brands of an ISO media file, given its first bytes; none for another file."""
    if start[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return {start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))}


def is_heic(start: bytes) -> bool:
    """Return whether the first bytes are those of a still picture in HEVC."""
    found = brands(start)
    return bool(found & HEVC_BRANDS) and not found & AVIF_BRANDS


def picture_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height of the largest picture in a file, given its beginning; None where it names no size.

    A phone's picture is a grid of tiles, and each tile has a size of its own: the largest one is that of the grid.
    """
    sizes = []
    for kind, body in _boxes_at(content, DEPTH):
        if kind == b"ispe" and len(body) >= 12:
            sizes.append(struct.unpack_from(">II", body, 4))
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _boxes_at(content: bytes, path: tuple[str, ...]) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the boxes within the first boxes along a path."""
    for name in path:
        body = next((body for kind, body in _boxes(content) if kind == name.encode()), None)
        if body is None:
            return
        content = body[4:] if name == "meta" else body  # "meta" begins with its version and flags
    yield from _boxes(content)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of boxes that follow each other; stop at one that can't be read."""
    position = 0
    for _number in range(MOST_BOXES):
        head = content[position : position + 16]
        if len(head) < 8:
            return
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:16], "big"), 16
        if length == 0:  # up to the end of the file
            length = len(content) - position
        if length < header:
            return
        yield head[4:8], content[position + header : position + length]
        position += length
