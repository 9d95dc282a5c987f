"""Draw product photos."""

import io

from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image, ImageDraw


def product_photo(
    format: str = "JPEG", size: tuple[int, int] = (640, 480), mode: str = "RGB", **options: object
) -> bytes:
    """Draw a product, a red mug on a table; return the file."""
    image = Image.new("RGB", size, (214, 208, 198))
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.rectangle((width * 0.3, height * 0.25, width * 0.6, height * 0.8), fill=(190, 40, 40))
    draw.arc((width * 0.52, height * 0.35, width * 0.75, height * 0.7), -90, 90, fill=(190, 40, 40), width=width // 24)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def photo_upload(content: bytes | None = None, name: str = "mug.jpg") -> SimpleUploadedFile:
    """Return a photo as Django hands on an uploaded file."""
    return SimpleUploadedFile(name, product_photo() if content is None else content, content_type="image/jpeg")
