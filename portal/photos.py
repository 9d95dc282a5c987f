"""Hostile uploads in, clean pictures out: two re-encoded copies under random names, with nothing of the original's."""

import io
import warnings
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from PIL import Image, ImageOps, UnidentifiedImageError

from classifier.storage import StorageDown, storage_faults

FORMATS = ("JPEG", "PNG", "WEBP")
LARGE_SIDE = 1600  # the long side of the copy for people
SMALL_SIDE = 256  # the short side of the copy for the models and for training
WIDEST_RATIO = 20
WHITE = (255, 255, 255)


class PhotoError(Exception):
    """A photo that Aisle doesn't take; the message tells the seller what to do. `status` is the API's answer."""

    def __init__(self, message: str, *, code: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class Photo:
    """The storage names of a clean photo's two copies."""

    large: str = ""
    small: str = ""

    def __bool__(self) -> bool:
        return bool(self.large)

    def as_fields(self) -> dict[str, str]:
        """The fields of Product and Prediction that hold a photo."""
        return {f"photo_{size}": name for size, name in asdict(self).items()}


def clean_photo(upload: "UploadedFile[Any]") -> Photo:
    """Decode an upload once, orient it, drop everything but its pixels and store a large and a small copy.

    Raises PhotoError for what is too large, not a JPEG, PNG or WebP, animated, broken or oddly shaped.
    """
    with decode(upload) as picture:
        upright = _on_white(ImageOps.exif_transpose(picture))
    upright.thumbnail((LARGE_SIDE, LARGE_SIDE), Image.Resampling.LANCZOS)
    small = upright.copy()
    scale = SMALL_SIDE / min(small.size)
    if scale < 1:
        small = small.resize([max(1, round(side * scale)) for side in small.size], Image.Resampling.LANCZOS)
    try:
        with storage_faults():
            return _store_both(upright, small)
    except StorageDown as error:
        raise PhotoError(
            _("We can't store photos at the moment. Please try again in a few minutes."),
            code="storage_down",
            status=503,
        ) from error


def _store_both(upright: Image.Image, small: Image.Image) -> Photo:
    key = uuid4().hex
    return Photo(
        large=_store(upright, f"{key[:2]}/{key}-large.jpg", quality=85),
        small=_store(small, f"{key[:2]}/{key}-small.jpg", quality=90),
    )


def decode(upload: "UploadedFile[Any]") -> Image.Image:
    """Return the upload's pixels, reduced while decoding where the format can. Raises PhotoError."""
    _check_size(upload)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            upload.seek(0)
            picture = Image.open(upload, formats=FORMATS)
            _check_shape(picture)
            picture.draft("RGB", (LARGE_SIDE, LARGE_SIDE))
            picture.load()
        except UnidentifiedImageError as error:
            raise PhotoError(
                _("This file is not a JPEG, PNG or WebP picture. Save it as one of these, or take a new photo."),
                code="unsupported_photo",
                status=415,
            ) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_many_pixels() from error
        except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
            raise PhotoError(
                _("This photo is damaged or incomplete. Upload it again, or take a new one."),
                code="broken_photo",
            ) from error
    return picture


def delete_photo(photo: Photo) -> None:
    for name in (photo.large, photo.small):
        if name:
            default_storage.delete(name)


def _check_size(upload: "UploadedFile[Any]") -> None:
    if (upload.size or 0) > settings.UPLOAD_LIMIT_BYTES:
        message = _("This photo is %(size)d MB; the limit is %(limit)d MB. Make it smaller or take a new one.")
        size, limit = -(-(upload.size or 0) // 1_000_000), settings.UPLOAD_LIMIT_BYTES // 1_000_000
        raise PhotoError(message % {"size": size, "limit": limit}, code="photo_too_large", status=413)
    if not upload.size:
        raise PhotoError(_("This file is empty. Choose another photo."), code="empty_photo")


def _check_shape(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > settings.UPLOAD_LIMIT_PIXELS:
        raise _too_many_pixels()
    # MPO is a JPEG to which a phone's camera added further views; only the first is read.
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        raise PhotoError(_("This picture moves. Upload a still photo."), code="animated_photo")
    if max(width, height) > WIDEST_RATIO * min(width, height):
        raise PhotoError(
            _("This picture is too narrow to show a product. Upload one of a more usual shape."),
            code="narrow_photo",
        )


def _too_many_pixels() -> PhotoError:
    limit = settings.UPLOAD_LIMIT_PIXELS // 1_000_000
    message = _("This photo has more than %(limit)d megapixels. Make it smaller or take a new one.") % {"limit": limit}
    return PhotoError(message, code="photo_too_large", status=413)


def _on_white(picture: Image.Image) -> Image.Image:
    """Return an RGB picture with transparent parts white, without metadata."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGB", picture.size, WHITE)
        ground.paste(picture, mask=picture.getchannel("A"))
        return ground
    if picture.mode.startswith("I"):  # 16 bits per pixel, which convert() would clip instead of scale
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    return picture.convert("RGB")


def _store(picture: Image.Image, name: str, *, quality: int) -> str:
    buffer = io.BytesIO()
    picture.info = {}
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return str(default_storage.save(name, ContentFile(buffer.getvalue())))
