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
from feedback.fraud_cases.answer_log import Numbers, Said
from feedback.models.cases import Case, FraudTally
from feedback.statistics.fraud.answer_log import SELLER, Tally, fold, unfold

SETTLED = timedelta(minutes=5)  # an answer's transaction has ended by then, and it can be read
AT_ONCE = 50_000
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    """All answers up to a moment, as sums. `cleared`: as `FraudTally` has it, with whole numbers for sellers."""

    tally: Tally
    numbers: Numbers
    cleared: dict[int, float]
    until: datetime
    revision: int

    @classmethod
    def stored(cls) -> Self:
        row, _is_new = FraudTally.objects.get_or_create(pk=FraudTally.THE_ONE)
        return cls(
            tally=unpacked(bytes(row.arrays)),
            numbers=Numbers(row.categories, row.versions),
            cleared={int(seller): at for seller, at in row.cleared.items()},
            until=row.until or NEVER,
            revision=row.revision,
        )

    def store(self) -> bool:
        """Keep this in the place of what it was made from; return False where somebody was quicker."""
        row = FraudTally.objects.filter(pk=FraudTally.THE_ONE, revision=self.revision)
        return bool(
            row.update(
                arrays=packed(self.tally),
                categories=self.numbers.categories,
                versions=self.numbers.versions,
                cleared={str(seller): at for seller, at in self.cleared.items()},
                until=self.until,
                revision=F("revision") + 1,
            )
        )


def fold_new(now: datetime) -> Known:
    """Fold what sellers answered since the last time, store it, and return it.

    What stands in the sums is every answer as it stood at `until`: one that was changed since is taken out and its
    successor put in. Running it again, or twice at once, changes nothing: the slower one's sums are dropped.
    """
    before = Known.stored()
    until = max(now - SETTLED, before.until)
    cleared = clearings()
    tally = before.tally
    for seller, at in cleared.items():
        if before.cleared.get(seller) != at:
            tally = tally.without(seller)
    numbers, start, end = before.numbers, _seconds(before.until), _seconds(until)
    histories = answer_log.since(before.until)
    while batch := list(islice(histories, AT_ONCE)):
        gone: list[Said] = []
        come: list[Said] = []
        for history in batch:
            old, new = history.as_of(start), history.as_of(end)
            if old is not new:
                gone += [old] if old else []
                come += [new] if new else []
        tally = unfold(tally, numbers.log(gone), cleared)
        tally = fold(tally, numbers.log(come), cleared)
    known = Known(_of_existing(tally), numbers, cleared, until, before.revision)
    known.store()
    return known


def clearings() -> dict[int, float]:
    """Return when a seller's case was cleared last, in seconds since 1970."""
    found = Case.objects.filter(state=Case.State.CLEARED).values_list("seller").annotate(Max("decided_at")).order_by()
    return {seller: at.timestamp() for seller, at in found if at}


def packed(tally: Tally) -> bytes:
    """Return a tally as a compressed .npz; column by column, which halves it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, keys=np.ascontiguousarray(tally.keys.T), count=tally.count, surprise=tally.surprise)
    return buffer.getvalue()


def unpacked(data: bytes) -> Tally:
    if not data:
        return Tally.empty()
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return Tally(np.ascontiguousarray(arrays["keys"].T), arrays["count"], arrays["surprise"])


def _of_existing(tally: Tally) -> Tally:
    """Return the tally without sellers whose account is gone."""
    accounts = get_user_model()._default_manager.values_list("pk", flat=True)
    existing = np.fromiter(accounts.iterator(chunk_size=10_000), np.int64)
    kept = np.isin(tally.keys[:, SELLER], existing)
    return Tally(tally.keys[kept], tally.count[kept], tally.surprise[kept])


def _seconds(moment: datetime) -> float:
    return -np.inf if moment == NEVER else moment.timestamp()
