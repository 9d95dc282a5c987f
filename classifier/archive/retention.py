"""Delete shadows' answers and model failures that are older than experiments look back."""

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from classifier.models import Fault, ModelVersion, ShadowAnswer

BATCH = 1_000


def delete_old_records() -> int:
    """Delete shadows' answers and model failures older than TRIAL_DAYS, BATCH rows at a time; return how many rows."""
    before = timezone.now() - timedelta(days=settings.TRIAL_DAYS)
    versions = list(ModelVersion.objects.values_list("pk", flat=True))  # the index of each table begins with it
    deleted = 0
    for version in versions:
        deleted += _delete_before(ShadowAnswer, version, before)
        deleted += _delete_before(Fault, version, before)
    return deleted


def _delete_before(rows: type[ShadowAnswer] | type[Fault], version: int, before: datetime) -> int:
    # In batches, each a transaction of its own: one DELETE of millions of rows would take minutes and could not resume.
    old = rows._default_manager.filter(version=version, created_at__lt=before).order_by()
    deleted = 0
    while ids := list(old.values_list("pk", flat=True)[:BATCH]):
        deleted += rows._default_manager.filter(pk__in=ids).delete()[0]
    return deleted
