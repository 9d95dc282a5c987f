import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("aisle")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def load_models(**_: Any) -> None:
    """Load the deployed models before the first seller waits for them."""
    if "predict" in app.amqp.queues.consume_from:
        from classifier import loading

        loading.load_deployed()


@worker_ready.connect
def be_watched(sender: Any, **_: Any) -> None:
    """Say that this worker is alive, and end it when it is stuck."""
    from portal import watchdog

    watchdog.watch(list(sender.app.amqp.queues.consume_from))
