"""Wake the training workers when a run is queued."""

from functools import partial

from celery import current_app
from django.db import transaction

# By its name, not by an import: training.tasks imports the services that wake the workers.
RUN_TRAINING = "training.tasks.run_training"


def wake_workers_on_commit() -> None:
    """Wake the training workers after the commit.

    A broker that is away fails nothing: the row is the queue, and beat wakes the workers again.
    """
    transaction.on_commit(partial(current_app.send_task, RUN_TRAINING), robust=True)
