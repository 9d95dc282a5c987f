"""Celery tasks: erasures, exports, retention and left-over photos. Schedules name them, so their names never change."""

from celery import shared_task
from django.core.management import call_command

from portal.accounts import tokens
from portal.api import idempotency
from portal.privacy import erasing, exporting, retention
from portal.products import services


@shared_task
def clear_sessions() -> None:
    """Delete log-in sessions that have expired."""
    call_command("clearsessions")


@shared_task
def delete_stale_drafts() -> None:
    """Delete photos that were uploaded but never became part of a product."""
    services.delete_stale_drafts()


@shared_task(expires=60)
def erase_due() -> None:
    """Continue the erasures that are due."""
    erasing.erase_due()


@shared_task(expires=60)
def build_exports() -> None:
    """Build the data exports that were requested."""
    exporting.build_due()


@shared_task
def delete_old_exports() -> None:
    """Delete data exports that have expired."""
    exporting.delete_old()


@shared_task(expires=3600)
def retain() -> None:
    """Delete data that is older than its retention period."""
    retention.delete_expired()


@shared_task
def delete_idempotency_keys() -> None:
    """Delete idempotency keys and their responses that are older than a day."""
    idempotency.delete_expired()


@shared_task
def delete_expired_tokens() -> None:
    """Delete API tokens that expired a month ago."""
    tokens.delete_expired()
