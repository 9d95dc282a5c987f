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
    """Load the deployed models before the first seller waits for them."""
    if "predict" in app.amqp.queues.consume_from:
        from classifier.registry import model_cache

        model_cache.load_live_models()


@task_postrun.connect
def return_connections(**_: Any) -> None:
    """Give the task's connection back to the pool, which looks whether it still works when it hands it out."""
    close_old_connections()


@worker_ready.connect
def be_watched(sender: Any, **_: Any) -> None:
    """Say that this worker is alive, and end it when it is stuck."""
    from portal.operations import worker_watchdog

    worker_watchdog.watch(list(sender.app.amqp.queues.consume_from))


@worker_shutting_down.connect
def stop_in_time(how: str, **_: Any) -> None:
    """Let a predict worker finish its batch for STOP_SECONDS; then what it runs is cancelled, and gives it back."""
    if how == "Warm" and "predict" in app.amqp.queues.consume_from:
        cancel = threading.Timer(settings.STOP_SECONDS, os.kill, [os.getpid(), signal.SIGQUIT])
        cancel.daemon = True
        cancel.start()
