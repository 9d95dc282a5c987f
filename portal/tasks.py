from celery import shared_task
from django.core.management import call_command

from portal import services


@shared_task
def clear_sessions() -> None:
    """Delete log-in sessions that have expired."""
    call_command("clearsessions")


@shared_task
def delete_stale_drafts() -> None:
    """Delete photos that were uploaded but never became part of a product."""
    services.delete_stale_drafts()
