"""Hostile uploads in, clean pictures out: two re-encoded copies under random names, with nothing of the original's."""

from dataclasses import asdict, dataclass
from threading import BoundedSemaphore
from typing import Any, NamedTuple
from uuid import uuid4

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from PIL import Image, UnidentifiedImageError

from classifier import pictures
from classifier.storage import StorageDown, breaker, storage_faults

WIDEST_RATIO = 20
# A picture at the limit takes hundreds of MB while it is decoded, so a process decodes only so many at once.
DECODING = BoundedSemaphore(2)
LONGEST_TURN = 10  # seconds


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

    @classmethod
    def anew(cls) -> "Photo":
        """Return names that nothing has and nobody can guess."""
        key = uuid4().hex
        return cls(f"{key[:2]}/{key}-large.jpg", f"{key[:2]}/{key}-small.jpg")

    def as_fields(self) -> dict[str, str]:
        """The fields of Product and Prediction that hold a photo."""
        return {f"photo_{size}": name for size, name in asdict(self).items()}


class Copies(NamedTuple):
    """A clean photo, as two JPEG files."""

    large: bytes
    small: bytes


def clean_photo(upload: "UploadedFile[Any]") -> Copies:
    """Decode an upload once, orient it, drop everything but its pixels and return a large and a small copy.

    Raises PhotoError for what is too large, not a JPEG, PNG or WebP, animated, broken or oddly shaped, and when
    the storage is known to be down.
    """
    _check_size(upload)
    if breaker.rests:  # nothing is decoded to be refused afterwards
        raise _storage_down()
    return _copies_in_turn(upload)


def store_photo(photo: Photo, copies: Copies) -> None:
    """Write both copies. Raises PhotoError when the storage is down; one of them may lie there then."""
    try:
        with storage_faults():
            default_storage.save(photo.large, ContentFile(copies.large))
            default_storage.save(photo.small, ContentFile(copies.small))
    except StorageDown as error:
        raise _storage_down() from error


def delete_photo(photo: Photo) -> None:
    """Delete both copies. Raises StorageDown."""
    with storage_faults():
        for name in (photo.large, photo.small):
            if name:
                default_storage.delete(name)


def _copies_in_turn(upload: "UploadedFile[Any]") -> Copies:
    if not DECODING.acquire(timeout=LONGEST_TURN):
        raise PhotoError(
            _("Many photos are coming in at the moment. Please try again in a minute."), code="busy", status=503
        )
    try:
        return _copies(upload)
    finally:
        DECODING.release()


def _copies(upload: "UploadedFile[Any]") -> Copies:
    try:
        upload.seek(0)
        with Image.open(upload, formats=pictures.FORMATS) as picture:
            _check_shape(picture)
            return Copies(*pictures.copies(picture))
    except UnidentifiedImageError as error:
        raise PhotoError(
            _("This file is not a JPEG, PNG or WebP picture. Save it as one of these, or take a new photo."),
            code="unsupported_photo",
            status=415,
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_many_pixels() from error
    except pictures.BROKEN as error:
        raise PhotoError(
            _("This photo is damaged or incomplete. Upload it again, or take a new one."), code="broken_photo"
        ) from error


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


def _storage_down() -> PhotoError:
    message = _("We can't store photos at the moment. Please try again in a few minutes.")
    return PhotoError(message, code="storage_down", status=503)


def _too_many_pixels() -> PhotoError:
    limit = settings.UPLOAD_LIMIT_PIXELS // 1_000_000
    message = _("This photo has more than %(limit)d megapixels. Make it smaller or take a new one.") % {"limit": limit}
    return PhotoError(message, code="photo_too_large", status=413)
