"""Delete data whose retention period is over. Each period is a setting; 0 keeps the data."""

import logging
from collections import Counter
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from classifier.archive import slimming
from classifier.models import Prediction
from common.object_storage import StorageDown
from portal.models import Product, ProductPhoto
from portal.privacy import traces
from portal.privacy.models import PrivacyEvent, log_event
from portal.products import services

log = logging.getLogger(__name__)

BATCH = 200
PHOTOS = ("photo_large", "photo_small")
MONTH = timedelta(days=365 / 12)


def delete_expired() -> Counter[str]:
    """Delete what is older than its period; return the count of each kind. It can be interrupted and repeated."""
    deleted: Counter[str] = Counter()
    now = timezone.now()
    if settings.TRASH_DAYS:
        deleted["products"] = _empty_trash(now - timedelta(days=settings.TRASH_DAYS))
    try:
        if settings.DETAIL_MONTHS:
            deleted["details moved to the archive"] = slimming.slim_predictions(
                before=now - settings.DETAIL_MONTHS * MONTH
            ).moved
        if settings.DELETED_DAYS:
            _delete_leftovers(now - timedelta(days=settings.DELETED_DAYS), deleted)
    except StorageDown as error:
        log.warning("Old data could not be deleted yet: %s", error)
    if settings.LOG_DAYS:
        deleted["log lines"] = _delete_log(now - timedelta(days=settings.LOG_DAYS))
    deleted += Counter()  # drops the zeros
    if deleted:
        log_event(PrivacyEvent.Kind.RETENTION, **deleted)
    return deleted


def _empty_trash(before: datetime) -> int:
    """Delete the products that were moved to the trash before that time; return how many."""
    deleted = 0
    expired = Product.objects.filter(deleted_at__lt=before)
    while ids := list(expired.order_by("deleted_at").values_list("pk", flat=True)[:BATCH]):
        deleted += services.delete_trashed_products(products=expired.filter(pk__in=ids))
    return deleted


def leftovers(before: datetime) -> QuerySet[Prediction]:
    """Return finished predictions that no product shows: it was deleted, or has another one since a change.

    One whose answer a product has kept through a change is shown as long as the product has that answer.
    """
    newest = Product.objects.filter(prediction=OuterRef("pk"))
    return Prediction.objects.finished().filter(~Exists(newest), ~_is_answered(), created_at__lt=before)


def _is_answered() -> Exists:
    """Return the condition that a product has its answer from this prediction."""
    return Exists(Product.objects.filter(answer__prediction=OuterRef("pk")))


def _delete_leftovers(before: datetime, deleted: Counter[str]) -> None:
    """Delete leftovers, oldest first: files before rows, so that an interrupted run finds them again."""
    start: datetime | None = None
    while True:
        rows = leftovers(before) if start is None else leftovers(before).filter(created_at__gte=start)
        batch = list(rows.order_by("created_at").values_list("pk", "seller", "created_at", *PHOTOS)[:BATCH])
        if not batch:
            return
        ids, start = [row[0] for row in batch], batch[-1][2]
        photos = {name for row in batch for name in row[3:] if name}
        # First of all, so that no product takes a photo back whose files are deleted now, and so that the task that
        # deletes stale drafts can't leave the files to this one while this one leaves them to it.
        ProductPhoto.objects.drafts().filter(large__in=photos).delete()
        deleted.update(
            traces.delete_files(ids, sorted(photos - _still_used(photos, {row[1] for row in batch}, before)))
        )
        deleted.update(traces.delete_rows(ids))


def _still_used(photos: set[str], sellers: set[int], before: datetime) -> set[str]:
    """Return those of the photos that a product or a prediction that is kept still uses."""
    named = Q(photo_large__in=photos) | Q(photo_small__in=photos)
    products = Product.objects.filter(named, seller__in=sellers)
    further = ProductPhoto.objects.filter(large__in=photos)
    kept = Prediction.objects.filter(Q(_is_answered()) | Q(created_at__gte=before), named, seller__in=sellers)
    rows = [*products.values_list(*PHOTOS), *further.values_list("large", "small"), *kept.values_list(*PHOTOS)]
    return {name for names in rows for name in names}


def _delete_log(before: datetime) -> int:
    deleted = 0
    while ids := list(LogEntry.objects.filter(action_time__lt=before).order_by().values_list("pk", flat=True)[:BATCH]):
        deleted += LogEntry.objects.filter(pk__in=ids).delete()[0]
    return deleted
