"""Store an uploaded photo and prepare what the services of products take."""

from typing import Any

from classifier.models import Prediction
from portal.api.errors import QueueIsFull, RefusedPhoto
from portal.models import Product, User
from portal.products import services
from portal.products.photos import PhotoError
from portal.products.services import QueueFull


def take_upload(seller: User, data: dict[str, Any], *, product: Product | None = None) -> dict[str, Any]:
    """Store the photo of a validated upload and return the arguments of submit_product or edit_product.

    Raises QueueIsFull and RefusedPhoto.
    """
    values: dict[str, Any] = {name: data[name] for name in ("title", "description", "sku") if name in data}
    values["priority"] = Prediction.Priority.BULK if data["bulk"] else Prediction.Priority.INTERACTIVE
    try:
        # Before the photo is decoded, which is the costly part of a request.
        services.check_queue(priority=values["priority"])
        if "image" in data:
            values["photos"] = [services.create_photo_draft(seller=seller, upload=data["image"])]
    except QueueFull as error:
        raise QueueIsFull(error) from error
    except PhotoError as error:
        raise RefusedPhoto(error) from error
    if product and ("image" in data or data["remove_image"]):
        values["removed_photos"] = list(product.photos.all())
    return values
