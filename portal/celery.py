import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

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
