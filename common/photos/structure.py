"""Check the parts of a picture file: reject too many of them, and data that end early.

Decoders accept a picture whose data end early and leave the rest grey or black; here it counts as damaged.
"""

import re
import struct
import zlib
from collections.abc import Sequence
from math import ceil

from common.photos.headers import END_OF_IMAGE, START_OF_SCAN, Fault, Header, PictureError

# A progressive JPEG has about ten scans. Each costs a pass over all pixels, and a file may name thousands.
MOST_SCANS = 100
MOST_SEGMENTS_BETWEEN_SCANS = 1_000
# Encoders write image data in chunks of 8 KB or more: 1,500 in a file of 12 MB. Pillow spends Python on each chunk.
MOST_CHUNKS = 20_000
MOST_OTHER_CHUNKS = 1_000  # those that hold no image data

# Within a scan's data FF is followed by 00 or by a restart marker; anything else ends the scan.
AFTER_SCAN = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
COEFFICIENTS = 64
UNSEEN = 99

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG colour type
READ_AT_ONCE = 65_536
INFLATED_AT_ONCE = 1_000_000

Segment = tuple[int, int, int]  # marker, its place, length


def end_of_scans(content: bytes, header: Header) -> int:
    """Return where a JPEG's last scan ends. Raises PictureError for too many scans, or when some are missing."""
    segments = _segments_from_scan(content, header)
    if header.coefficient_bytes:
        _check_scans(content, header, segments)
        place = next((start for marker, start, _length in segments if marker == END_OF_IMAGE), None)
    else:
        place = segments[1][1] if len(segments) > 1 else None
    return len(content) if place is None else place


def check_chunks(content: bytes) -> None:
    """Raise PictureError for a PNG with more chunks than any encoder writes."""
    chunks = _chunks(content)
    others = sum(kind != b"IDAT" for kind, _start, _length in chunks)
    if len(chunks) > MOST_CHUNKS or others > MOST_OTHER_CHUNKS:
        raise PictureError(Fault.TOO_MANY_PARTS, f"{len(chunks)} chunks, {others} of them without image data")


def check_png_data(content: bytes) -> None:
    """Raise PictureError when a PNG's image data inflate to less than its size demands."""
    width, height, depth, colour, _compression, _filter, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    missing = _png_bytes(width, height, depth * SAMPLES[colour], bool(interlaced))
    inflater = zlib.decompressobj()
    for kind, start, length in _chunks(content):
        for at in range(start, min(start + length, len(content)), READ_AT_ONCE) if kind == b"IDAT" else ():
            data = content[at : min(at + READ_AT_ONCE, start + length)]
            while data and missing > 0 and not inflater.eof:
                missing -= len(inflater.decompress(data, INFLATED_AT_ONCE))
                data = inflater.unconsumed_tail
    missing -= len(inflater.flush()) if missing > 0 and not inflater.eof else 0
    if missing > 0:
        raise PictureError(Fault.BROKEN, f"{missing} bytes of image data are missing")


def _png_bytes(width: int, height: int, pixel_bits: int, interlaced: bool) -> int:
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, step_x, step_y in passes:
        columns, rows = ceil((width - left) / step_x), ceil((height - top) / step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + ceil(columns * pixel_bits / 8))
    return total


def _chunks(content: bytes) -> list[tuple[bytes, int, int]]:
    """Return kind, start and length of a PNG's chunks up to IEND, at most one more than MOST_CHUNKS."""
    found: list[tuple[bytes, int, int]] = []
    position = 8
    while position + 8 <= len(content) and len(found) <= MOST_CHUNKS:
        length, kind = struct.unpack_from(">I4s", content, position)
        found.append((kind, position + 8, length))
        position += 12 + length
        if kind == b"IEND":
            break
    return found


def _check_scans(content: bytes, header: Header, segments: Sequence[Segment]) -> None:
    """Check that the scans bring every coefficient of every component to its full precision."""
    precision = {component: [UNSEEN] * COEFFICIENTS for component in header.component_ids}
    scans = 0
    for marker, start, length in segments:
        if marker != START_OF_SCAN:
            continue
        scans += 1
        if scans > MOST_SCANS:
            raise PictureError(Fault.TOO_MANY_PARTS, f"more than {MOST_SCANS} scans")
        count = content[start + 4] if length >= 3 else 0
        if count not in range(1, 5) or length != 6 + 2 * count:
            raise PictureError(Fault.BROKEN, "a wrong scan header")
        ids = content[start + 5 : start + 5 + 2 * count : 2]
        first, last, bits = content[start + 5 + 2 * count : start + 8 + 2 * count]
        for component in ids:
            levels = precision.get(component, [])
            levels[first : last + 1] = [bits & 15] * (min(last, COEFFICIENTS - 1) + 1 - first)
    if any(level for levels in precision.values() for level in levels):
        raise PictureError(Fault.BROKEN, "scans are missing")


def _segments_from_scan(content: bytes, header: Header) -> list[Segment]:
    """Return a JPEG's segments from the first start of scan to the end of the image, which a cut file lacks.

    In a JPEG of one scan nothing is read after that scan's data.
    """
    found = []
    position = header.scan_at
    while match := AFTER_SCAN.search(content, position):
        marker, start = match[1][0], match.start(1) - 1
        length = 0 if marker == END_OF_IMAGE else int.from_bytes(content[start + 2 : start + 4], "big")
        found.append((marker, start, length))
        if marker == END_OF_IMAGE or (len(found) > 1 and not header.coefficient_bytes):
            break
        if len(found) > MOST_SCANS + MOST_SEGMENTS_BETWEEN_SCANS:
            raise PictureError(Fault.TOO_MANY_PARTS, f"more than {len(found)} segments between scans")
        position = start + 2 + length
    return found
