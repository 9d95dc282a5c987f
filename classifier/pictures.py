"""What an uploaded picture becomes before anybody sees it: plain JPEG copies with nothing of the original's."""

import io
import struct
import zlib

from PIL import Image, ImageOps

# What Pillow raises for files that were made to break it, among others by metadata of another type than it expects.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, MemoryError, struct.error, zlib.error, LookupError, TypeError,
    AttributeError, ArithmeticError,
)  # fmt: skip

FORMATS = ("JPEG", "PNG", "WEBP")
LARGE_SIDE = 1600  # the long side of the copy for people
SMALL_SIDE = 256  # the short side of the copy for the models and for training
LARGE_QUALITY, SMALL_QUALITY = 85, 90
# The small copy is first reduced by whole steps to at least this many times its size, which is cheap, then by Lanczos.
SMALL_GAP = 2.0
WHITE = (255, 255, 255)
# A progressive JPEG has about ten scans. Each costs a pass over all pixels, and a file may name thousands.
MOST_SCANS = 100
START_OF_SCAN = b"\xff\xda"


class TooManyScans(ValueError):
    """A JPEG made to cost its decoder minutes."""


def copies(picture: Image.Image) -> tuple[bytes, bytes]:
    """Decode an opened picture once, orient it, and return its large and its small copy as JPEG files.

    Transparent parts become white; metadata is dropped. Raises what Pillow raises for a broken picture, and
    TooManyScans.
    """
    _refuse_many_scans(picture)
    reduce_while_decoding(picture)
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    large = _on_white(picture)
    large.thumbnail((LARGE_SIDE, LARGE_SIDE), Image.Resampling.LANCZOS)
    scale = SMALL_SIDE / min(large.size)
    size = _scaled(large.size, scale)
    small = large.resize(size, Image.Resampling.LANCZOS, reducing_gap=SMALL_GAP) if scale < 1 else large
    return _jpeg(large, LARGE_QUALITY), _jpeg(small, SMALL_QUALITY)


def photo_hash(picture: Image.Image) -> int:
    """Return the 64-bit difference hash: whether each of 8 x 8 cells is darker than the next (Krawetz 2013)."""
    grey = picture.convert("L").resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = "".join("1" if grey[9 * y + x + 1] > grey[9 * y + x] else "0" for y in range(8) for x in range(8))
    return int(bits, 2)


def signed(number: int) -> int:
    """Return a 64-bit number as PostgreSQL's bigint holds it."""
    return number - (1 << 64) if number >> 63 else number


def reduce_while_decoding(picture: Image.Image) -> None:
    """Let an opened JPEG be decoded at half, a quarter or an eighth of its size if the copies need no more."""
    picture.draft("RGB", _scaled(picture.size, LARGE_SIDE / max(picture.size)))


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _refuse_many_scans(picture: Image.Image) -> None:
    file = picture.fp  # type: ignore[attr-defined]
    if picture.format in ("JPEG", "MPO") and file is not None:
        position = file.tell()
        file.seek(0)
        # Within a scan's data an FF is always followed by 00, so the marker can't occur by chance.
        scans = file.read().count(START_OF_SCAN)
        file.seek(position)
        if scans > MOST_SCANS:
            raise TooManyScans(f"{scans} scans")


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGB", picture.size, WHITE)
        ground.paste(picture, mask=picture.getchannel("A"))
        return ground
    if picture.mode.startswith("I"):  # 16 bits per pixel, which convert() would clip instead of scale
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.info = {}
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
