"""Configure Celery: load models in predict workers, return database connections, stop in time."""

import os
import signal
import threading
from typing import Any

from celery import Celery
from celery.signals import task_postrun, worker_process_init, worker_ready, worker_shutting_down
from django.conf import settings
from django.db import close_old_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("aisle")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def load_models(**_: Any) -> None:
    """Load the deployed models when a predict worker starts, so that no seller waits for it."""
    if "predict" in app.amqp.queues.consume_from:
        from classifier.registry import model_cache

        model_cache.load_live_models()


@task_postrun.connect
def return_connections(**_: Any) -> None:
    """Return the task's database connection to the pool, which checks it before the next use."""
    close_old_connections()


@worker_ready.connect
def start_watchdog(sender: Any, **_: Any) -> None:
    """Start the thread that reports the worker alive and ends it when it is stuck."""
    from portal.operations import worker_watchdog

    worker_watchdog.watch(list(sender.app.amqp.queues.consume_from))


@worker_shutting_down.connect
def limit_shutdown(how: str, **_: Any) -> None:
    """Give a predict worker STOP_SECONDS to finish its batch; then cancel the task, which releases its rows."""
    if how == "Warm" and "predict" in app.amqp.queues.consume_from:
        cancel = threading.Timer(settings.STOP_SECONDS, os.kill, [os.getpid(), signal.SIGQUIT])
        cancel.daemon = True
        cancel.start()
