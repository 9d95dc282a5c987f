from celery import shared_task

from portal import services


@shared_task
def delete_stale_drafts() -> None:
    """Delete photos that were uploaded but never became part of a product."""
    services.delete_stale_drafts()
