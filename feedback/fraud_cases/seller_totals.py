"""The stored sums of all sellers' answers, folded on with what came since."""

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Self

import numpy as np
from django.contrib.auth import get_user_model
from django.db.models import F, Max

from feedback.fraud_cases import answer_log
from feedback.fraud_cases.answer_log import AnswerRecord, CodeTable
from feedback.models.cases import Case, FraudTally
from feedback.statistics.fraud.answer_log import SELLER, SellerTotals, add_answers, remove_answers

SETTLING_TIME = timedelta(minutes=5)  # an answer's transaction has ended by then, and it can be read
BATCH_SIZE = 50_000
NO_ANSWERS_YET = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class StoredTotals:
    """All answers up to a moment, as sums. `cleared`: as `FraudTally` has it, with whole numbers for sellers."""

    tally: SellerTotals
    numbers: CodeTable
    cleared: dict[int, float]
    until: datetime
    revision: int

    @classmethod
    def stored(cls) -> Self:
        row, _is_new = FraudTally.objects.get_or_create(pk=FraudTally.THE_ONE)
        return cls(
            tally=unpack_totals(bytes(row.arrays)),
            numbers=CodeTable(row.categories, row.versions),
            cleared={int(seller): at for seller, at in row.cleared.items()},
            until=row.until or NO_ANSWERS_YET,
            revision=row.revision,
        )

    def store(self) -> bool:
        """Keep this in the place of what it was made from; return False where somebody was quicker."""
        row = FraudTally.objects.filter(pk=FraudTally.THE_ONE, revision=self.revision)
        return bool(
            row.update(
                arrays=pack_totals(self.tally),
                categories=self.numbers.categories,
                versions=self.numbers.versions,
                cleared={str(seller): at for seller, at in self.cleared.items()},
                until=self.until,
                revision=F("revision") + 1,
            )
        )


def update_totals(now: datetime) -> StoredTotals:
    """Fold what sellers answered since the last time, store it, and return it.

    What stands in the sums is every answer as it stood at `until`: one that was changed since is taken out and its
    successor put in. Running it again, or twice at once, changes nothing: the slower one's sums are dropped.
    """
    before = StoredTotals.stored()
    until = max(now - SETTLING_TIME, before.until)
    cleared = read_clearing_times()
    tally = before.tally
    for seller, at in cleared.items():
        if before.cleared.get(seller) != at:
            tally = tally.without(seller)
    numbers, start, end = before.numbers, _seconds(before.until), _seconds(until)
    histories = answer_log.read_answers_since(before.until)
    while batch := list(islice(histories, BATCH_SIZE)):
        gone: list[AnswerRecord] = []
        come: list[AnswerRecord] = []
        for history in batch:
            old, new = history.as_of(start), history.as_of(end)
            if old is not new:
                gone += [old] if old else []
                come += [new] if new else []
        tally = remove_answers(tally, numbers.log(gone), cleared)
        tally = add_answers(tally, numbers.log(come), cleared)
    known = StoredTotals(_of_existing(tally), numbers, cleared, until, before.revision)
    known.store()
    return known


def read_clearing_times() -> dict[int, float]:
    """Return when a seller's case was cleared last, in seconds since 1970."""
    found = Case.objects.filter(state=Case.State.CLEARED).values_list("seller").annotate(Max("decided_at")).order_by()
    return {seller: at.timestamp() for seller, at in found if at}


def pack_totals(tally: SellerTotals) -> bytes:
    """Return a tally as a compressed .npz; column by column, which halves it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, keys=np.ascontiguousarray(tally.keys.T), count=tally.count, surprise=tally.surprise)
    return buffer.getvalue()


def unpack_totals(data: bytes) -> SellerTotals:
    if not data:
        return SellerTotals.empty()
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return SellerTotals(np.ascontiguousarray(arrays["keys"].T), arrays["count"], arrays["surprise"])


def _of_existing(tally: SellerTotals) -> SellerTotals:
    """Return the tally without sellers whose account is gone."""
    accounts = get_user_model()._default_manager.values_list("pk", flat=True)
    existing = np.fromiter(accounts.iterator(chunk_size=10_000), np.int64)
    kept = np.isin(tally.keys[:, SELLER], existing)
    return SellerTotals(tally.keys[kept], tally.count[kept], tally.surprise[kept])


def _seconds(moment: datetime) -> float:
    return -np.inf if moment == NO_ANSWERS_YET else moment.timestamp()
