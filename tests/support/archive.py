"""Write and read the archive of one prediction."""

import json

from django.core.files.storage import storages

from classifier.archive import writer
from classifier.models import Prediction
from classifier.tasks import archive_pending
from portal.models import Product


def read_archived(prediction: Prediction, name: str) -> dict[str, object]:
    """Return one of the JSON files that the archive holds of a prediction."""
    content: dict[str, object] = json.loads(storages["archive"].open(writer.archive_path(prediction.pk, name)).read())
    return content


def archive_prediction(product: Product) -> Prediction:
    """Archive what is due; return the product\'s prediction as it is then."""
    archive_pending()
    return Prediction.objects.get(pk=product.prediction_id)
