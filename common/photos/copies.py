"""Make a large and a small JPEG copy of an uploaded picture, without anything but its pixels."""

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image, ImageFile, ImageOps

from common.photos.colour import (
    as_rgba,
    choose_ground,
    is_transparent,
    read_profile,
    scale_colour_key,
    to_8_bits,
    to_srgb,
)
from common.photos.headers import (
    STRIP_PIXELS,
    Fault,
    Header,
    PictureError,
    large_size,
    read_from,
    read_header,
    reduction,
)
from common.photos.structure import check_chunks, check_png_data, end_of_scans

# What Pillow raises for files that were made to break it, among others by metadata of another type than it expects.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, MemoryError, struct.error, zlib.error, LookupError, TypeError,
    AttributeError, ArithmeticError,
)  # fmt: skip

SMALL_SIDE = 256  # the short side of the copy for the models and for training
LARGE_QUALITY, SMALL_QUALITY = 85, 90
# The small copy is first reduced by whole steps to at least this many times its size, which is cheap, then by Lanczos.
SMALL_GAP = 2.0
# A JPEG decoder fetches up to eight bytes more than it needs. These begin no short code that would cover many blocks.
READ_AHEAD = b"\xfe" * 16
END_MARKER = b"\xff\xd9"


def make_copies(content: bytes) -> tuple[bytes, bytes]:
    """Decode a picture file, orient it, and return its large and its small copy as JPEG files in sRGB.

    Transparent parts become white, or grey under a white product; metadata is dropped. Memory stays below
    `Header.decoding_memory`: no step makes a second full-size picture. Raises PictureError.
    """
    try:
        large = _decode_large(content)
        scale = SMALL_SIDE / min(large.size)
        small = large
        if scale < 1:
            small = large.resize(_scaled(large.size, scale), Image.Resampling.LANCZOS, reducing_gap=SMALL_GAP)
        return _jpeg(large, LARGE_QUALITY), _jpeg(small, SMALL_QUALITY)
    except MemoryError as error:
        raise PictureError(Fault.TOO_MUCH_MEMORY, "memory ran out while the picture was decoded") from error
    except RuntimeError as error:  # libheif's errors, which are told apart by their texts alone
        fault = Fault.TOO_MUCH_MEMORY if str(error).startswith("Memory allocation") else Fault.BROKEN
        raise PictureError(fault, str(error)) from error
    except Image.DecompressionBombError as error:
        raise PictureError(Fault.TOO_MANY_PIXELS, str(error)) from error
    except BROKEN as error:
        raise PictureError(Fault.BROKEN, str(error)) from error


def photo_hash(picture: Image.Image) -> int:
    """Return the 64-bit difference hash: whether each of 8 x 8 cells is darker than the next (Krawetz 2013)."""
    grey = picture.convert("L").resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = "".join("1" if grey[9 * y + x + 1] > grey[9 * y + x] else "0" for y in range(8) for x in range(8))
    return int(bits, 2)


def signed(number: int) -> int:
    """Return a 64-bit number as PostgreSQL's bigint holds it."""
    return number - (1 << 64) if number >> 63 else number


def open_reduced(content: bytes, header: Header) -> ImageFile.ImageFile:
    """Open a picture so that a JPEG is decoded at half, a quarter or an eighth of its size if the copies need no more.

    Raises what Pillow raises, and PictureError when the file holds another picture than its header says.
    """
    picture = Image.open(io.BytesIO(content), formats=[header.format])
    is_turned = header.format == "HEIF" and picture.size == (header.height, header.width)
    if picture.size != (header.width, header.height) and not is_turned:
        raise PictureError(Fault.BROKEN, f"{picture.size} pixels instead of {header.width} x {header.height}")
    # A phone's camera adds further views to its JPEG, which makes it an MPO, or HEIC; only the main one is read.
    if getattr(picture, "n_frames", 1) > 1 and picture.format not in ("MPO", "HEIF"):
        raise PictureError(Fault.ANIMATED, "several frames")
    if header.draft_scale > 1:
        picture.draft("RGB", (header.width // header.draft_scale, header.height // header.draft_scale))
    return picture


def load_whole(picture: ImageFile.ImageFile, content: bytes, header: Header) -> None:
    """Decode an opened picture. Raises what Pillow raises, and PictureError when the data end early."""
    if header.format == "JPEG":
        _load_jpeg(picture, content, header)
    picture.load()
    if header.format == "PNG":
        _check_last_row(picture, content)


def _decode_large(content: bytes) -> Image.Image:
    header = read_header(read_from(content), len(content))
    if header.format == "PNG":
        check_chunks(content)
    picture = open_reduced(content, header)
    load_whole(picture, content, header)
    if header.format == "PNG":
        scale_colour_key(picture, header.bit_depth)
    info, profile = picture.info, read_profile(picture)
    width, height = picture.size
    reduced = _reduce_opaque(picture, keep_cmyk=profile is not None)
    del picture
    step_x, step_y = reduction(width, height)
    large = reduced
    if (size := large_size(width, height)) != (width, height):
        large = reduced.resize(size, Image.Resampling.LANCZOS, box=(0, 0, width / step_x, height / step_y))
    del reduced
    large = to_srgb(large, profile)
    large.info = info
    ImageOps.exif_transpose(large, in_place=True)
    return large


def _load_jpeg(picture: ImageFile.ImageFile, content: bytes, header: Header) -> None:
    """Decode a JPEG without its end marker, so that missing data are noticed.

    At an early end marker libjpeg fills the rest with grey and only warns, which Pillow doesn't pass on. Without the
    marker it waits for more data. Hence not `picture.load`: it would give up then, also when several scans are whole.
    """
    data = content[: end_of_scans(content, header)].rstrip(b"\xff") + READ_AHEAD  # an FF would begin a marker
    picture.load_prepare()
    name, extents, _offset, arguments = picture.tile[0]
    decoder = Image._getdecoder(picture.mode, name, arguments, picture.decoderconfig)
    try:
        decoder.setimage(picture.im, extents)
        used, code = decoder.decode(data)
        if header.coefficient_bytes and used >= 0:
            # After a complete scan a decoder looks for a marker and drops every other byte at once. Within a scan it
            # takes several bytes or none.
            data = data[used:] + b"\xfe"
            used, code = decoder.decode(data)
            if 0 <= used < len(data):
                raise PictureError(Fault.BROKEN, "the last scan is incomplete")
            used, code = decoder.decode(END_MARKER)
        if used >= 0:
            raise PictureError(Fault.BROKEN, "the picture's data end early")
        if code < 0:
            raise PictureError(Fault.BROKEN, f"the decoder gave up with code {code}")
    finally:
        decoder.cleanup()
    picture.tile = []


def _check_last_row(picture: Image.Image, content: bytes) -> None:
    """Reject a PNG whose data end early: Pillow accepts it, and leaves zeros where rows are missing.

    Inflating all data once more is exact but slow, so it is done where the last row is nothing but zeros, and for
    interlaced pictures, whose rows come in another order.
    """
    width, height = picture.size
    last_row = picture.crop((0, height - 1, width, height)).tobytes()
    if picture.info.get("interlace") or not last_row.strip(b"\0"):
        check_png_data(content)


def _reduce_opaque(picture: Image.Image, *, keep_cmyk: bool) -> Image.Image:
    """Return the picture without transparency in RGB, reduced by whole steps as far as its large copy allows.

    With `keep_cmyk` a CMYK picture stays one, for its profile to be applied.
    """
    step_x, step_y = reduction(*picture.size)
    mode = "CMYK" if keep_cmyk and picture.mode == "CMYK" else "RGB"
    if picture.mode == mode and not is_transparent(picture):
        return picture.reduce((step_x, step_y)) if max(step_x, step_y) > 1 else picture
    ground = choose_ground(_strips(picture, step_y)) if is_transparent(picture) else None
    reduced = Image.new(mode, (-(-picture.width // step_x), -(-picture.height // step_y)))
    top = 0
    for strip in _strips(picture, step_y):
        opaque = to_8_bits(strip).convert(mode) if ground is None else _on_ground(strip, ground)
        part = opaque.reduce((step_x, step_y))
        reduced.paste(part, (0, top))
        top += part.height
    return reduced


def _strips(picture: Image.Image, step: int) -> Iterator[Image.Image]:
    """Yield a loaded picture in strips whose heights, but for the last one's, are multiples of `step`."""
    width, height = picture.size
    rows = max(1, STRIP_PIXELS // width // step) * step
    for top in range(0, height, rows):
        yield picture.crop((0, top, width, min(top + rows, height)))


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _on_ground(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    rgba = as_rgba(picture)
    ground = Image.new("RGB", rgba.size, colour)
    ground.paste(rgba, mask=rgba.getchannel("A"))
    return ground


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.info = {}
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
