"""Store the totals of all sellers' answers, and update them with answers that are new or changed."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Self

import numpy as np
from django.contrib.auth import get_user_model
from django.db.models import F, Max

from feedback.fraud_cases import answer_log
from feedback.fraud_cases.answer_log import AnswerHistory, AnswerRecord, CodeTable
from feedback.models.cases import Case, FraudTally
from feedback.statistics.fraud.answer_log import SELLER, SellerTotals, add_answers, remove_answers

# Answers younger than this are left for the next update: the transaction of an answer may commit after a later one's,
# and an answer that becomes visible only after the update would never be counted.
SETTLING_TIME = timedelta(minutes=5)
BATCH_SIZE = 50_000
NO_ANSWERS_YET = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class StoredTotals:
    """The totals of all answers up to a time, with the numbers of categories and versions that they use.

    `cleared` is when a seller's latest case was cleared, in seconds since 1970.
    """

    totals: SellerTotals
    codes: CodeTable
    cleared: dict[int, float]
    until: datetime
    revision: int

    @classmethod
    def load(cls) -> Self:
        row, _is_new = FraudTally.objects.get_or_create(pk=FraudTally.THE_ONE)
        return cls(
            totals=unpack_totals(bytes(row.arrays)),
            codes=CodeTable(row.categories, row.versions),
            cleared={int(seller): at for seller, at in row.cleared.items()},
            until=row.until or NO_ANSWERS_YET,
            revision=row.revision,
        )

    def save(self) -> bool:
        """Replace the stored totals; return False where another worker stored newer ones first."""
        # The revision guards the UPDATE: two workers that add the same answers must not both be counted.
        row = FraudTally.objects.filter(pk=FraudTally.THE_ONE, revision=self.revision)
        updated = row.update(
            arrays=pack_totals(self.totals),
            categories=self.codes.categories,
            versions=self.codes.versions,
            cleared={str(seller): at for seller, at in self.cleared.items()},
            until=self.until,
            revision=F("revision") + 1,
        )
        return bool(updated)


def update_totals(now: datetime) -> StoredTotals:
    """Add the answers since the last update to the stored totals, and return them.

    The totals hold each answer as it was at `until`: an answer that was changed since the last update is removed and
    its successor added. Running it twice, or in two workers at once, changes nothing: the totals of the slower worker
    are dropped.
    """
    stored = StoredTotals.load()
    until = max(now - SETTLING_TIME, stored.until)
    cleared = read_clearing_times()
    totals = stored.totals
    for seller, at in cleared.items():
        if stored.cleared.get(seller) != at:
            totals = totals.without_seller(seller)
    start, end = _to_seconds(stored.until), _to_seconds(until)
    histories = answer_log.read_answers_since(stored.until)
    while batch := list(islice(histories, BATCH_SIZE)):
        removed, added = _find_changes(batch, start, end)
        totals = remove_answers(totals, stored.codes.encode_answers(removed), cleared)
        totals = add_answers(totals, stored.codes.encode_answers(added), cleared)
    updated = replace(stored, totals=_drop_deleted_sellers(totals), cleared=cleared, until=until)
    updated.save()
    return updated


def read_clearing_times() -> dict[int, float]:
    """Return when each seller's latest case was cleared, in seconds since 1970."""
    cleared = Case.objects.filter(state=Case.State.CLEARED)
    found = cleared.values_list("seller").annotate(Max("decided_at")).order_by()
    return {seller: at.timestamp() for seller, at in found if at}


def pack_totals(totals: SellerTotals) -> bytes:
    """Return totals as a compressed .npz, with the keys column by column, which halves its size."""
    buffer = io.BytesIO()
    keys = np.ascontiguousarray(totals.keys.T)
    np.savez_compressed(buffer, keys=keys, count=totals.count, surprise=totals.surprisal)
    return buffer.getvalue()


def unpack_totals(data: bytes) -> SellerTotals:
    """Return the totals that `pack_totals` wrote; empty ones for no data."""
    if not data:
        return SellerTotals.empty()
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return SellerTotals(np.ascontiguousarray(arrays["keys"].T), arrays["count"], arrays["surprise"])


def _find_changes(
    histories: Iterable[AnswerHistory], start: float, end: float
) -> tuple[list[AnswerRecord], list[AnswerRecord]]:
    """Return the answers that were valid at `start` and no longer are at `end`, and those that took their place."""
    removed, added = [], []
    for history in histories:
        old, new = history.as_of(start), history.as_of(end)
        if old is new:
            continue
        if old is not None:
            removed.append(old)
        if new is not None:
            added.append(new)
    return removed, added


def _drop_deleted_sellers(totals: SellerTotals) -> SellerTotals:
    accounts = get_user_model()._default_manager.values_list("pk", flat=True)
    existing = np.fromiter(accounts.iterator(chunk_size=10_000), np.int64)
    return totals.select(np.isin(totals.keys[:, SELLER], existing))


def _to_seconds(moment: datetime) -> float:
    return -np.inf if moment == NO_ANSWERS_YET else moment.timestamp()
