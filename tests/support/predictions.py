"""Queue predictions and let their leases expire."""

from datetime import timedelta

from django.utils import timezone

from classifier.models import Prediction
from portal.models import User


def queue_predictions(seller: User, count: int = 1, **fields: object) -> list[Prediction]:
    """Store queued predictions of a seller."""
    rows = [Prediction(seller=seller, title=f"Mug {i}", **fields) for i in range(count)]
    return Prediction.objects.bulk_create(rows)


def expire_leases(*predictions: Prediction) -> None:
    """Let the leases of claimed predictions end a second ago."""
    ids = [prediction.pk for prediction in predictions]
    Prediction.objects.filter(pk__in=ids).update(available_at=timezone.now() - timedelta(seconds=1))
