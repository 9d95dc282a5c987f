"""Turn untrusted uploads into two re-encoded copies under random names, without anything but the pixels."""

import time
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _

from common.fair_turns import NoTurn
from common.object_storage import StorageDown, breaker, storage_faults
from common.photo_decoding import LONGEST_TURN, decode_upload, open_descriptor, photo_header
from common.photos.decoder_pool import Copies
from common.photos.headers import Fault, Header, PictureError, UnsupportedFormat
from common.text import clean_line

MOST_PHOTOS = 10  # of a product
WIDEST_RATIO = 20
LONGEST_NAME = 60  # of a file, in a message
# The seconds after which no further photo of a request is decoded: ten must not hold a thread ten times as long as one.
LONGEST_DECODING = 15.0


class PhotoError(Exception):
    """A rejected photo; the message says what the seller can do. `status` is the API's response."""

    def __init__(self, message: str, *, code: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    @property
    def is_temporary(self) -> bool:
        """Whether the photo may be accepted later, as it is."""
        return self.status == 503

    def naming(self, upload: "UploadedFile[Any]") -> "PhotoError":
        """Return the error with the file's name before the message, for one of several photos."""
        message = _("“%(name)s”: %(message)s") % {"name": clean_line(upload.name or "")[:LONGEST_NAME], "message": self}
        return PhotoError(message, code=self.code, status=self.status)


@dataclass(frozen=True)
class Photo:
    """The storage names of a clean photo's two copies."""

    large: str = ""
    small: str = ""

    def __bool__(self) -> bool:
        return bool(self.large)

    @classmethod
    def with_new_names(cls) -> "Photo":
        """Return unused names that can't be guessed."""
        key = uuid4().hex
        return cls(f"{key[:2]}/{key}-large.jpg", f"{key[:2]}/{key}-small.jpg")

    def as_fields(self) -> dict[str, str]:
        """Return the values of the photo fields of Product and Prediction."""
        return {f"photo_{size}": name for size, name in asdict(self).items()}


def clean_photos(uploads: "Sequence[UploadedFile[Any]]", *, seller: Hashable) -> list[Copies | PhotoError]:
    """Clean the photos of one request, one after the other; return for each its copies or why it was rejected.

    After a temporary error the photos behind it get the same one untried.
    """
    results: list[Copies | PhotoError] = []
    until = time.monotonic() + LONGEST_DECODING
    size = 0
    for upload in uploads:
        # As much of it as the upload handler writes.
        size += min(upload.size or 0, settings.UPLOAD_LIMIT_BYTES + 1)
        try:
            _check_size_of_all(size)
            if time.monotonic() > until:
                raise _busy()
            results.append(clean_photo(upload, seller=seller, patience=until - time.monotonic()))
        except PhotoError as error:
            if error.is_temporary:
                return results + [error] * (len(uploads) - len(results))
            results.append(error.naming(upload) if len(uploads) > 1 else error)
    return results


def clean_photo(upload: "UploadedFile[Any]", *, seller: Hashable = None, patience: float = LONGEST_TURN) -> Copies:
    """Decode an upload once, orient it, drop everything but its pixels and return a large and a small copy.

    A decoder process does it when it is the seller's turn. Raises PhotoError for a file that is too large,
    not a JPEG, PNG, WebP or HEIC, animated, damaged, too narrow or too costly to decode, and while the storage is down.
    """
    _check_size(upload)
    if breaker.rests:  # decode nothing that could not be stored
        raise _storage_down()
    try:
        with open_descriptor(upload) as descriptor:
            header = photo_header(descriptor)
            _check_shape(header)
            return decode_upload(descriptor, header, seller=seller, patience=max(patience, 0))
    except PictureError as error:
        raise _refusal(error) from error
    except NoTurn as error:
        raise _busy() from error


def store_photo(photo: Photo, copies: Copies) -> None:
    """Store both copies. Raises PhotoError when the storage is down; one copy may have been stored then."""
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


def _check_size(upload: "UploadedFile[Any]") -> None:
    if (upload.size or 0) > settings.UPLOAD_LIMIT_BYTES:
        message = _("This photo is %(size)d MB; the limit is %(limit)d MB. Make it smaller or take a new one.")
        size, limit = -(-(upload.size or 0) // 1_000_000), settings.UPLOAD_LIMIT_BYTES // 1_000_000
        raise PhotoError(message % {"size": size, "limit": limit}, code="photo_too_large", status=413)
    if not upload.size:
        raise PhotoError(_("This file is empty. Choose another photo."), code="empty_photo")


def _check_size_of_all(size: int) -> None:
    if size > settings.UPLOAD_REQUEST_LIMIT_BYTES:
        message = _("Photos that are sent together may have %(limit)d MB. Send this one later, or make them smaller.")
        limit = settings.UPLOAD_REQUEST_LIMIT_BYTES // 1_000_000
        raise PhotoError(message % {"limit": limit}, code="photos_too_large", status=413)


def _check_shape(header: Header) -> None:
    if max(header.width, header.height) > WIDEST_RATIO * min(header.width, header.height):
        raise PhotoError(
            _("This picture is too narrow to show a product. Upload one of a more usual shape."),
            code="narrow_photo",
        )


def _busy() -> PhotoError:
    message = _("Many photos are coming in at the moment. Please try again in a minute.")
    return PhotoError(message, code="busy", status=503)


def _storage_down() -> PhotoError:
    message = _("We can't store photos at the moment. Please try again in a few minutes.")
    return PhotoError(message, code="storage_down", status=503)


def _refusal(error: PictureError) -> PhotoError:
    """Return the error that a seller reads about a rejected picture."""
    if isinstance(error, UnsupportedFormat):
        return _unsupported(error.name)
    limit = settings.UPLOAD_LIMIT_PIXELS // 1_000_000
    code, status, message = {
        Fault.BROKEN: (
            "broken_photo",
            400,
            _("This photo is damaged or incomplete. Upload it again, or take a new one."),
        ),
        Fault.ANIMATED: ("animated_photo", 400, _("This picture is animated. Upload a still photo.")),
        Fault.TOO_MANY_PARTS: (
            "broken_photo",
            400,
            _("This file contains far more data than a photo needs. Save it again as a JPEG."),
        ),
        Fault.TOO_MANY_PIXELS: (
            "photo_too_large",
            413,
            _("This photo has more than %(limit)d megapixels. Make it smaller or take a new one.") % {"limit": limit},
        ),
        Fault.TOO_MUCH_MEMORY: (
            "photo_too_large",
            413,
            _("Opening this photo needs more memory than we allow. Make it smaller, or save it as an ordinary JPEG."),
        ),
        Fault.TOO_SLOW: (
            "slow_photo",
            400,
            _("Opening this photo takes too long. Make it smaller, or save it as an ordinary JPEG."),
        ),
    }[error.fault]
    return PhotoError(message, code=code, status=status)


def _unsupported(format_name: str) -> PhotoError:
    message = _("This file is not a photo that we can read. Upload a JPEG, PNG, WebP or HEIC photo.")
    if format_name:
        message = _("This file is of the kind %(format)s. Upload a JPEG, PNG, WebP or HEIC photo.") % {
            "format": format_name
        }
    return PhotoError(message, code="unsupported_photo", status=415)
