import logging
import signal
import time
from collections.abc import Sequence

from celery import Task, shared_task
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from kombu.exceptions import OperationalError

from classifier.archive import retention, writer
from classifier.models import Prediction
from classifier.models.archivable import archive_due_rows
from classifier.registry import rollout_guard
from classifier.serving.batch import classify_claimed

log = logging.getLogger(__name__)

LONGEST_TURN = 1.0  # seconds of work for one bell


@shared_task(expires=60)
def classify_pending() -> None:
    """Answer due predictions, batch by batch, and after a second ring for the next.

    A worker that is told to stop stops at the ring; one that may not finish its batch gives it back. Only when the bell
    is broken it goes on alone.
    """
    turn = time.monotonic() + LONGEST_TURN
    while batch := Prediction.objects.claim(limit=settings.BATCH_SIZE):
        try:
            classify_claimed(batch)
        except SystemExit:  # how a process learns that its time to stop is over
            _give_back(batch)
            raise
        _rang(archive_pending)
        if time.monotonic() > turn and _rang(classify_pending):
            return


def _give_back(batch: Sequence[Prediction]) -> None:
    """Leave the rest of a batch to other workers at once. Where that fails, they wait until the lease runs out."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Celery repeats it, and the second one would kill
    connection.close()  # it may have been in the middle of a query
    try:
        returned = Prediction.objects.release(batch)
    except DatabaseError as error:
        log.warning("A batch of %d could not be given back: %s", len(batch), type(error).__name__)
        return
    log.warning("Stopped: %d predictions of a batch of %d go to other workers.", returned, len(batch))
    _rang(classify_pending)


def _rang(task: Task[[], None]) -> bool:
    try:
        task.delay()
    except OperationalError:
        log.warning("%s could not be asked for; beat asks again.", task.name)
        return False
    return True


def notify_workers_on_commit() -> None:
    """Wake the workers after the commit. A bell that can't ring fails nothing: beat rings again."""
    transaction.on_commit(classify_pending.delay, robust=True)


@shared_task(name="classifier.tasks.ring")  # schedules in the database name the task so
def wake_workers() -> None:
    """Wake the workers for rows whose bell was lost, whose lease ran out or whose pause is over."""
    if Prediction.objects.due().exists():
        classify_pending.delay()


@shared_task(expires=60)
def archive_pending() -> None:
    """Archive finished predictions; those that the storage refuses are tried again later."""
    archive_due_rows(Prediction.objects.finished().with_versions(), writer.archive_prediction)


@shared_task(expires=60)
def guard_versions() -> None:
    """Stop new versions that fail or are slow beyond their budget."""
    rollout_guard.stop_failing_versions()


@shared_task(name="classifier.tasks.forget_old_records", expires=3600)
def delete_old_records() -> None:
    """Delete what shadows answered and versions failed at long ago."""
    retention.delete_old_records()
