"""Claim database rows for one worker at a time, so that slow work needs no row lock.

The pattern is claim, commit, work, record: `claim_rows` stores a random lease token and the time when the lease ends,
and commits. The worker sends its mail or calls its server without a transaction, and `Claim.record` stores the outcome
by an UPDATE that requires the token. A worker that dies leaves a lease that ends, and another worker claims the row.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from django.db import models, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now


class Leasable(models.Model):
    """A row that one worker at a time can claim."""

    lease_token = models.UUIDField(null=True, editable=False)
    lease_expires_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True


Row = TypeVar("Row", bound=Leasable)


@dataclass(frozen=True)
class Claim(Generic[Row]):
    """Rows that one worker holds under one lease token."""

    rows: Sequence[Row]
    token: uuid.UUID
    duration: timedelta

    def renew(self) -> bool:
        """Extend the lease by its full duration; return whether every row is still held."""
        return self._held().update(lease_expires_at=Now() + self.duration) == len(self.rows)

    def record(self, **values: Any) -> int:
        """Store the values on the rows that are still held, and end the lease; return how many rows."""
        return self._held().update(**values, lease_token=None, lease_expires_at=None)

    def release(self) -> int:
        """End the lease without an outcome, so that the rows can be claimed at once; return how many rows."""
        return self.record()

    def _held(self) -> QuerySet[Leasable]:
        # The token, not the time, decides: a worker whose lease has run out may still record its outcome as long as no
        # other worker has claimed the row, and never afterwards.
        ids = [row.pk for row in self.rows]
        return type(self.rows[0])._base_manager.filter(pk__in=ids, lease_token=self.token)


def claim_rows(rows: QuerySet[Row], *, duration: timedelta, limit: int | None = None) -> Claim[Row] | None:
    """Lease up to `limit` rows that no other worker holds, in the query's order; return None when there are none.

    The lease is committed before this returns. Raises RuntimeError inside a transaction.
    """
    token = uuid.uuid4()
    # Durable: inside an outer transaction the claim would stay uncommitted, and its row locks held, during the work.
    with transaction.atomic(durable=True):
        free = rows.filter(Q(lease_token=None) | Q(lease_expires_at__lte=Now()))
        # Skipping locked rows lets several workers claim side by side without waiting for each other.
        claimed = list(free.select_for_update(skip_locked=True, of=("self",))[:limit])
        if not claimed:
            return None
        # The database's clock sets the end of the lease, because it is the one that `free` compares with.
        type(claimed[0])._base_manager.filter(pk__in=[row.pk for row in claimed]).update(
            lease_token=token, lease_expires_at=Now() + duration
        )
    return Claim(claimed, token, duration)
