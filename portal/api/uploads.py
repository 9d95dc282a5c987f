"""Store an uploaded photo and prepare what the services of products take."""

from typing import Any

from classifier.models import Prediction
from portal.api.errors import QueueIsFull, RefusedPhoto
from portal.models import User
from portal.products import services
from portal.products.photos import PhotoError
from portal.products.services import QueueFull


def take_upload(seller: User, data: dict[str, Any]) -> dict[str, Any]:
    """Store the photo of a validated upload and return the arguments of submit_product or edit_product.

    Raises QueueIsFull and RefusedPhoto.
    """
    renamed = {"bulk": "priority", "image": "draft", "remove_image": "remove_photo"}
    values = {renamed.get(name, name): value for name, value in data.items()}
    values["priority"] = Prediction.Priority.BULK if data["bulk"] else Prediction.Priority.INTERACTIVE
    try:
        # Before the photo is decoded, which is the costly part of a request.
        services.check_queue(priority=values["priority"])
        if "image" in data:
            values["draft"] = services.create_photo_draft(seller=seller, upload=data["image"])
    except QueueFull as error:
        raise QueueIsFull(error) from error
    except PhotoError as error:
        raise RefusedPhoto(error) from error
    return values
