from celery import shared_task

from classifier import archive
from classifier.archivable import archive_due
from feedback.models import Feedback


@shared_task(expires=60)
def archive_feedback() -> None:
    """Write new answers beside the archived predictions; what the storage refuses is tried again later."""
    archive_due(Feedback.objects.select_related("category"), _write)


def _write(feedback: Feedback) -> None:
    archive.write(feedback.prediction_id, "feedback.json", {**feedback.answer(), "earlier": feedback.earlier})
