"""Claim rows for the archive and mark them when they are written."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Self, TypeVar

from django.db import models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from common.object_storage import StorageDown

log = logging.getLogger(__name__)

BATCH = 50
PAUSE = timedelta(seconds=60)
TOLERATED_FAILURES = 3


class Archivable(models.Model):
    """A row that is copied to the archive; code that changes it calls `needs_archiving`."""

    archived_at = models.DateTimeField(_("archived"), null=True, editable=False)
    archive_due_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        abstract = True

    def needs_archiving(self) -> None:
        """Make the row due for the archive again; the caller saves it."""
        self.archived_at = None
        self.archive_due_at = Now()


Row = TypeVar("Row", bound=Archivable)


class ArchivableQuerySet(models.QuerySet[Row]):
    def unarchived(self) -> Self:
        """Return the rows that are not archived, or have changed since."""
        return self.filter(archived_at=None)

    def claim_unarchived(self, *, limit: int) -> list[Row]:
        """Return due rows; other callers see them only after PAUSE, so that a dead worker's rows come again."""
        with transaction.atomic():
            due = self.unarchived().filter(archive_due_at__lte=Now()).order_by("archive_due_at")
            locked = due.select_for_update(skip_locked=True, of=("self",))
            ids = list(locked.values_list("pk", flat=True)[:limit])
            self.model._base_manager.filter(pk__in=ids).update(archive_due_at=Now() + PAUSE)
        return list(self.filter(pk__in=ids))


def archive_due_rows(rows: ArchivableQuerySet[Row], write: Callable[[Row], None]) -> None:
    """Write due rows until none is left or the storage fails TOLERATED_FAILURES times in a row; beat runs it again."""
    failures = 0
    while failures < TOLERATED_FAILURES and (batch := rows.claim_unarchived(limit=BATCH)):
        written, failures = [], 0
        for row in batch:
            try:
                write(row)
            except StorageDown as error:
                log.warning("%s %s could not be archived yet: %s", row._meta.label, row.pk, error)
                failures += 1
                if failures == TOLERATED_FAILURES:
                    break
            else:
                written.append(row)
        _mark_archived(written)


def _mark_archived(rows: Sequence[Archivable]) -> None:
    # `archive_due_at` serves as the claim's token: it has changed if the row was changed or claimed again since.
    by_claim = defaultdict(list)
    for row in rows:
        by_claim[row.archive_due_at].append(row.pk)
    for due, ids in by_claim.items():
        same = type(rows[0])._base_manager.filter(pk__in=ids)
        if same.filter(archive_due_at=due).update(archived_at=Now()) < len(ids):
            # Some rows changed while they were written, and an older copy may have replaced a newer one.
            same.exclude(archive_due_at=due).update(archived_at=None, archive_due_at=Now())
