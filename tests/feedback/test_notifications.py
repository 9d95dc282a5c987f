"""Mail and webhooks about reports and cases over the real database."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core import mail
from django.db import connection
from django.utils import timezone

from common.leases import Claim
from common.staff_mail import staff_addresses
from feedback import notifications
from feedback.fraud_cases.services import appeal_case, confirm_case, mail_appeals, mail_new_cases
from feedback.models import Case, MonitoringReport
from portal.models import User
from tests.support.mail_backends import HangingBackend, LockCheckingBackend

BACKENDS = "tests.support.mail_backends."


@pytest.fixture
def report(scientist: User) -> MonitoringReport:
    return MonitoringReport.objects.create(summary="Drift in language.", breached=True, notifies=True)


@pytest.fixture
def case(seller: User) -> Case:
    return Case.objects.create(seller=seller, favourite="beauty", figures={})


@pytest.fixture
def lock_checks(settings: Any) -> Iterator[type[LockCheckingBackend]]:
    settings.EMAIL_BACKEND = f"{BACKENDS}LockCheckingBackend"
    LockCheckingBackend.transactions.clear()
    LockCheckingBackend.locked.clear()
    yield LockCheckingBackend


@pytest.fixture
def hanging_server(settings: Any) -> Iterator[type[HangingBackend]]:
    settings.EMAIL_BACKEND = f"{BACKENDS}HangingBackend"
    HangingBackend.started.clear()
    HangingBackend.answer.clear()
    yield HangingBackend
    HangingBackend.answer.set()


def let_leases_expire() -> None:
    past = timezone.now() - timedelta(seconds=1)
    MonitoringReport.objects.filter(lease_token__isnull=False).update(lease_expires_at=past)
    Case.objects.filter(lease_token__isnull=False).update(lease_expires_at=past)


def test_mail_is_sent_without_a_transaction_or_a_row_lock(
    committed_db: None, report: MonitoringReport, case: Case, scientist: User, lock_checks: type[LockCheckingBackend]
) -> None:
    assert notifications.send_report_alerts() == 1
    assert mail_new_cases() == 1
    confirm_case(case=case, by=scientist, reason="On purpose.")
    appeal_case(seller=case.seller, note="They are guitars.")
    assert mail_appeals() == 1
    assert len(mail.outbox) == 3
    assert lock_checks.transactions == [False] * 3 and lock_checks.locked == [False] * 3


def test_two_workers_do_not_send_the_same_message(
    committed_db: None, report: MonitoringReport, case: Case, hanging_server: type[HangingBackend]
) -> None:
    sent: list[int] = []

    def work() -> None:
        sent.append(notifications.send_report_alerts())
        sent.append(mail_new_cases())
        connection.close()

    slow = threading.Thread(target=work)
    slow.start()
    assert hanging_server.started.wait(30)
    assert notifications.send_report_alerts() == 0  # the other worker is still sending it
    hanging_server.answer.set()
    slow.join()
    assert sent == [1, 1] and len(mail.outbox) == 2
    assert notifications.send_report_alerts() == 0 == mail_new_cases()


def test_a_crash_between_sending_and_recording_repeats_one_message(
    report: MonitoringReport, case: Case, scientist: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    MonitoringReport.objects.create(summary="Drift in label.", breached=True, notifies=True)

    def crash(*_arguments: Any, **_values: Any) -> int:
        raise SystemExit

    monkeypatch.setattr(Claim, "record", crash)
    for send in (notifications.send_report_alerts, mail_new_cases):
        with pytest.raises(SystemExit):
            send()
    monkeypatch.undo()
    assert len(mail.outbox) == 2
    assert notifications.send_report_alerts() == 1  # the other report; the first one is leased
    assert mail_new_cases() == 0
    let_leases_expire()
    assert notifications.send_report_alerts() == 1 == mail_new_cases()
    assert notifications.send_report_alerts() == 0 == mail_new_cases()
    bodies = [message.body for message in mail.outbox]
    assert sum("language" in body for body in bodies) == 2 and sum("label" in body for body in bodies) == 1


def test_a_worker_that_lost_its_lease_sends_no_further_message(
    report: MonitoringReport, scientist: User, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_mail = notifications.send_mail

    def send_slowly(*arguments: Any) -> int:
        let_leases_expire()
        monkeypatch.setattr(notifications, "send_mail", send_mail)
        assert notifications.send_report_alerts() == 1  # another worker takes over
        return send_mail(*arguments)

    monkeypatch.setattr(notifications, "send_mail", send_slowly)
    assert notifications.send_report_alerts() == 0
    assert sorted(message.to[0] for message in mail.outbox) == sorted(
        [administrator.email, administrator.email, scientist.email]
    )


def test_a_refused_mail_is_tried_again_by_the_next_call(report: MonitoringReport, case: Case, settings: Any) -> None:
    reachable, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, f"{BACKENDS}RefusingBackend"
    assert notifications.send_report_alerts() == 0 == mail_new_cases()
    settings.EMAIL_BACKEND = reachable
    assert notifications.send_report_alerts() == 1 == mail_new_cases()


def test_mail_goes_to_active_staff_with_the_permission(db: None) -> None:
    permission = Permission.objects.get(codename="view_monitoringreport")
    group = Group.objects.create(name="Watchers")
    group.permissions.add(permission)

    def make(name: str, **options: Any) -> User:
        return User.objects.create_user(f"{name}@shop.example", **options)

    make("direct", is_staff=True).user_permissions.add(permission)
    make("grouped", is_staff=True).groups.add(group)
    make("root", is_staff=True, is_superuser=True)
    make("plain", is_staff=True)
    make("seller").user_permissions.add(permission)
    make("left", is_staff=True, is_active=False).user_permissions.add(permission)
    found = staff_addresses(notifications.VIEW_REPORTS)
    assert found == ["direct@shop.example", "grouped@shop.example", "root@shop.example"]
