"""Store the photos of an upload and prepare what the services of products take."""

from typing import Any, cast

from rest_framework.request import Request

from classifier.models import Prediction
from portal.api.errors import QueueIsFull, RefusedPhoto
from portal.api.throttles import UploadThrottle
from portal.models import Product, ProductPhoto, User
from portal.products import services
from portal.products.photos import PhotoError
from portal.products.services import QueueFull


def take_upload(request: Request, data: dict[str, Any], *, product: Product | None = None) -> dict[str, Any]:
    """Store the photos of a validated upload and return the arguments of submit_product or edit_product.

    Raises QueueIsFull and RefusedPhoto.
    """
    values: dict[str, Any] = {name: data[name] for name in ("title", "description", "sku") if name in data}
    values["priority"] = Prediction.Priority.BULK if data["bulk"] else Prediction.Priority.INTERACTIVE
    images = data.get("image", [])
    UploadThrottle().count_photos(request, len(images))
    try:
        # Before the photos are decoded, which is the costly part of a request.
        services.check_queue(priority=values["priority"])
        drafts = services.create_photo_drafts(seller=cast(User, request.user), uploads=images) if images else []
    except QueueFull as error:
        raise QueueIsFull(error) from error
    except PhotoError as error:
        raise RefusedPhoto(error) from error
    return values | _photo_changes(data, drafts, product)


def _photo_changes(data: dict[str, Any], drafts: list[ProductPhoto], product: Product | None) -> dict[str, Any]:
    """Return the photos that a product gets and loses. New ones come behind those to keep, or replace all."""
    if product is None:
        return {"photos": drafts}
    if not drafts and "photos" not in data and not data["remove_image"]:
        return {}
    own = {photo.pk: photo for photo in product.photos.all()}
    kept = [own[key] for key in data.get("photos", ())]
    return {
        "photos": [*kept, *drafts],
        "removed_photos": [photo for photo in own.values() if photo not in kept],
    }
