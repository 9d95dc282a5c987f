"""What shadows said and what versions failed at: kept for a while, as a test looks back over weeks, not years."""

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from classifier.models import Fault, ModelVersion, ShadowAnswer

BATCH = 1_000


def delete_old_records() -> int:
    """Delete shadows' answers and faults older than TRIAL_DAYS, BATCH rows at a time; return how many rows."""
    before = timezone.now() - timedelta(days=settings.TRIAL_DAYS)
    versions = list(ModelVersion.objects.values_list("pk", flat=True))  # the index of each table begins with it
    return sum(_forget(rows, version, before) for rows in (ShadowAnswer, Fault) for version in versions)


def _forget(rows: type[ShadowAnswer] | type[Fault], version: int, before: datetime) -> int:
    old = rows._default_manager.filter(version=version, created_at__lt=before).order_by()
    forgotten = 0
    while ids := list(old.values_list("pk", flat=True)[:BATCH]):
        forgotten += rows._default_manager.filter(pk__in=ids).delete()[0]
    return forgotten
