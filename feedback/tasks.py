import logging
from datetime import timedelta

from celery import shared_task
from django.db.models.functions import Now
from django.utils import timezone

from classifier import archive
from classifier.storage import StorageDown
from feedback.models import Feedback

log = logging.getLogger(__name__)

RETRY = timedelta(seconds=60)
BATCH = 50
TOLERATED_FAILURES = 3


@shared_task(expires=60)
def archive_feedback() -> None:
    """Write new answers beside the archived predictions; what the storage refuses is tried again later."""
    failures = 0
    for feedback in Feedback.objects.claim_unarchived(limit=BATCH, retry_after=RETRY):
        try:
            archive.write(feedback.prediction_id, "feedback.json", {**feedback.answer(), "earlier": feedback.earlier})
        except StorageDown as error:
            log.warning("Feedback %s could not be archived yet: %s", feedback.pk, type(error).__name__)
            failures += 1
            if failures == TOLERATED_FAILURES:  # the storage is down: beat asks again
                return
            continue
        row = Feedback.objects.filter(pk=feedback.pk)
        if not row.filter(answered_at=feedback.answered_at).update(archived_at=timezone.now()):
            # The answer changed meanwhile, and the older one may have been written over the newer.
            row.update(archived_at=None, archive_due_at=Now())
