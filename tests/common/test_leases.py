import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from common.leases import Claim, claim_rows
from feedback.models import MonitoringReport

MINUTE = timedelta(minutes=1)


def make_reports(count: int) -> list[MonitoringReport]:
    return [MonitoringReport.objects.create(summary=f"Report {number}.") for number in range(count)]


def claim(limit: int | None = None) -> Claim[MonitoringReport] | None:
    return claim_rows(MonitoringReport.objects.order_by("pk"), limit=limit, duration=MINUTE)


def let_lease_expire() -> None:
    MonitoringReport.objects.update(lease_expires_at=timezone.now() - MINUTE)


def test_a_claimed_row_is_not_claimed_twice(db: None) -> None:
    first, second = make_reports(2)
    claimed = claim(limit=1)
    assert claimed and list(claimed.rows) == [first]
    other = claim()
    assert other and list(other.rows) == [second] and other.token != claimed.token
    assert claim() is None


def test_a_released_or_recorded_row_can_be_claimed_again(db: None) -> None:
    make_reports(1)
    claimed = claim()
    assert claimed and claimed.release() == 1
    claimed = claim()
    assert claimed and claimed.record(summary="Sent.") == 1
    assert MonitoringReport.objects.get().summary == "Sent."
    assert claim() is not None


def test_a_worker_whose_lease_was_taken_over_records_nothing(db: None) -> None:
    make_reports(1)
    late = claim()
    let_lease_expire()
    current = claim()
    assert late and current
    assert not late.renew() and late.record(summary="Late.") == 0 and late.release() == 0
    assert current.renew() and current.record(summary="Current.") == 1
    assert MonitoringReport.objects.get().summary == "Current."


def test_a_late_worker_still_records_while_no_other_worker_has_claimed_the_row(db: None) -> None:
    make_reports(1)
    late = claim()
    let_lease_expire()
    assert late and late.record(summary="Late.") == 1
    assert MonitoringReport.objects.get().summary == "Late."


def test_renewing_keeps_other_workers_away(db: None) -> None:
    make_reports(1)
    claimed = claim()
    let_lease_expire()
    assert claimed and claimed.renew()
    assert claim() is None


def test_workers_that_claim_at_the_same_time_get_different_rows(committed_db: None) -> None:
    make_reports(6)
    claims: list[Claim[MonitoringReport] | None] = []
    ready = threading.Barrier(3)

    def work() -> None:
        ready.wait(10)
        claims.append(claim(limit=2))
        connection.close()

    workers = [threading.Thread(target=work) for _number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rows = [row.pk for each in claims if each for row in each.rows]
    assert len(rows) == len(set(rows)) and len({each.token for each in claims if each}) == len(claims)


def test_claiming_inside_a_transaction_is_an_error(committed_db: None) -> None:
    make_reports(1)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        claim()
