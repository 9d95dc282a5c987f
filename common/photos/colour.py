"""Convert pictures of any colour space to sRGB, and choose the ground under transparent ones."""

import io
from collections.abc import Iterable

from PIL import Image, ImageCms, ImageStat

# By the colour space that an ICC profile names (ICC.1:2022, table 19): the mode of pictures that it describes.
MODE_OF_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# The longest segments of a JPEG hold 64 kB each. Profiles of presses have up to 3 MB.
LARGEST_PROFILE = 4_000_000  # bytes
SRGB = ImageCms.createProfile("sRGB")
WHITE, GREY = (255, 255, 255), (160, 160, 160)
NEARLY_WHITE = 235  # of 255: the mean brightness from which a product would vanish on white
TRANSPARENT_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


def read_profile(picture: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """Return the ICC profile embedded in a picture; None where it has none, a damaged one or one of another space.

    A picture without a profile is sRGB by convention. A damaged profile is ignored, as browsers do.
    """
    content = picture.info.get("icc_profile")
    if not content or len(content) > LARGEST_PROFILE:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        space = profile.profile.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return profile if MODE_OF_SPACE.get(space) == mode_for_profile(picture) else None


def mode_for_profile(picture: Image.Image) -> str:
    """Return the mode in which a picture's pixels are what its profile describes: RGB, L or CMYK."""
    if picture.mode in ("L", "LA", "La", "1") or picture.mode.startswith("I"):
        return "L"
    return "CMYK" if picture.mode == "CMYK" else "RGB"


def to_srgb(picture: Image.Image, profile: ImageCms.ImageCmsProfile | None) -> Image.Image:
    """Return a picture in sRGB as mode RGB, given the profile of its pixels; None means that they are sRGB."""
    if profile is None:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    mode = MODE_OF_SPACE[profile.profile.xcolor_space.strip()]
    if mode == "L" and picture.mode == "RGB":
        picture = picture.getchannel("R")  # a grey picture on its ground: all three channels are equal
    try:
        converted = ImageCms.profileToProfile(
            picture,
            profile,
            SRGB,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except ImageCms.PyCMSError:  # a profile that can't be used in this direction, such as one of a printer only
        return picture.convert("RGB")
    return converted or picture.convert("RGB")


def is_transparent(picture: Image.Image) -> bool:
    """Return whether a picture may have transparent pixels."""
    return picture.mode in TRANSPARENT_MODES or "transparency" in picture.info


def choose_ground(strips: Iterable[Image.Image]) -> tuple[int, int, int]:
    """Return the colour to put under a transparent picture, given its strips: white, or grey for a white product."""
    brightness, weight = 0.0, 0.0
    for strip in strips:
        rgba = as_rgba(strip)
        alpha = rgba.getchannel("A")
        opaque = alpha.point(lambda value: 255 * (value >= 128))
        stat = ImageStat.Stat(rgba.convert("L"), mask=opaque)
        brightness += stat.sum[0]
        weight += stat.count[0]
    return GREY if weight and brightness / weight >= NEARLY_WHITE else WHITE


def as_rgba(picture: Image.Image) -> Image.Image:
    """Return a picture as mode RGBA."""
    return to_8_bits(picture).convert("RGBA")


def to_8_bits(picture: Image.Image) -> Image.Image:
    """Return a picture of 16-bit greys as mode L, any other as it is."""
    if not picture.mode.startswith("I"):
        return picture
    # Not `convert("L")` at once: Pillow clips at 255 what it should scale.
    grey = picture.convert("I").point(lambda value: value / 256).convert("L")
    grey.info = dict(picture.info)
    return grey


def scale_colour_key(picture: Image.Image, depth: int) -> None:
    """Scale the transparent colour of a PNG to 8 bits, as Pillow scales its pixels; `depth` is the file's bit depth."""
    key = picture.info.get("transparency")
    if picture.mode == "P" or depth == 8 or key is None or isinstance(key, bytes):
        return
    if depth == 16:
        scaled = key >> 8 if isinstance(key, int) else tuple(value >> 8 for value in key)
    elif picture.mode == "1":  # Pillow has scaled it
        return
    else:
        scaled = key * 255 // (2**depth - 1)
    picture.info["transparency"] = scaled
