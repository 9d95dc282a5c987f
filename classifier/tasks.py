"""Celery tasks: classify, archive and guard. The database's schedules name them, so their names never change."""

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

LONGEST_TURN = 1.0  # seconds of work for one task


@shared_task(expires=60)
def classify_pending() -> None:
    """Classify due predictions batch by batch; after a second queue this task again and return.

    A worker that is told to stop does so between two tasks; one that may not finish its batch releases it.
    """
    deadline = time.monotonic() + LONGEST_TURN
    while batch := Prediction.objects.claim(limit=settings.BATCH_SIZE):
        try:
            classify_claimed(batch)
        except SystemExit:  # Celery raises it when the time to stop is over
            _release(batch)
            raise
        _queue(archive_pending)
        # While the broker is down the next task can't be queued, so this one continues.
        if time.monotonic() > deadline and _queue(classify_pending):
            return


def _release(batch: Sequence[Prediction]) -> None:
    """Let other workers claim the rest of a batch at once. Where that fails, they wait until its lease expires."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Celery repeats it, and the second one would kill
    connection.close()  # it may have been in the middle of a query
    try:
        released = Prediction.objects.release(batch)
    except DatabaseError as error:
        log.warning("A batch of %d could not be released: %s", len(batch), type(error).__name__)
        return
    log.warning("Stopped: %d predictions of a batch of %d go to other workers.", released, len(batch))
    _queue(classify_pending)


def _queue(task: Task[[], None]) -> bool:
    try:
        task.delay()
    except OperationalError:
        log.warning("%s could not be queued; beat queues it again.", task.name)
        return False
    return True


def notify_workers_on_commit() -> None:
    """Queue `classify_pending` after the commit."""
    # Robust: a broker that is down must not fail an upload that is stored. Beat queues the task again.
    transaction.on_commit(classify_pending.delay, robust=True)


@shared_task(name="classifier.tasks.ring")
def wake_workers() -> None:
    """Queue `classify_pending` for rows whose message was lost, whose lease expired or whose pause is over."""
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
    """Delete old answers of shadows and old failures of versions."""
    retention.delete_old_records()
