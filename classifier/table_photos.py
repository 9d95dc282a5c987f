"""Read the photos of a product file as the models would after an upload."""

import io

from django.conf import settings
from PIL import Image

from common.photo_decoding import decode_trusted
from common.photos.headers import Fault, PictureError
from common.tables.errors import RowError
from common.tables.reader import ProductFile, SourceRow


def read_row_photo(products: ProductFile, row: SourceRow) -> Image.Image | None:
    """Return the small copy of a row's photo, or None where the row names none. Raises RowError."""
    photo = products.photo(row, limit=settings.UPLOAD_LIMIT_BYTES)
    return Image.open(io.BytesIO(small_copy(photo.content))).convert("RGB") if photo else None


def small_copy(original: bytes) -> bytes:
    """Decode a photo as an upload is; return its small copy. Raises RowError for one that an upload would refuse."""
    try:
        return decode_trusted(original).small
    except PictureError as error:
        if error.fault in (Fault.TOO_MANY_PIXELS, Fault.TOO_MUCH_MEMORY):
            raise RowError("photo too large", f"The photo is too large: {error}.") from error
        raise RowError("broken photo", f"The photo can't be decoded: {error}") from error
