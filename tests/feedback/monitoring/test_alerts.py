import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.core import mail
from django.core.management import call_command
from django.utils import timezone

from classifier.models import Prediction
from feedback import notifications
from feedback.models import DriftReference, HealthSummary, MonitoringReport, Period
from feedback.monitoring import alerts, baselines, hourly_summaries, starter_baselines
from feedback.tasks import summarise_health
from portal.models import User
from tests.support.traffic import DAY, HOUR, SPANISH, TODAY, live_pair, store_answer, store_predictions
from training import tasks as training
from training.models import TrainingRun


@pytest.fixture
def settled(seller: User) -> datetime:
    """A shop with eight quiet days behind it, so that there is a reference; return the day after them."""
    start = TODAY - 10 * DAY
    for number in range(8):
        store_predictions(seller, start + number * DAY, 60, within=3 * HOUR)
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    made = starter_baselines.create_missing_baselines(now=start + 8 * DAY)
    assert [reference.origin for reference in made] == ["first days"]
    return start + 8 * DAY


def test_the_first_days_become_the_reference_of_versions_without_a_snapshot(seller: User, settled: datetime) -> None:
    assert starter_baselines.create_missing_baselines(now=settled) == []
    known = baselines.load_baseline(live_pair())
    assert known is not None
    assert known.summary.rows == 420 and set(known.projections) == {"text", "image"}
    assert known.summary.categories["language"] == Counter(en=420)


def test_too_few_predictions_make_no_reference(seller: User) -> None:
    start = TODAY - 9 * DAY
    store_predictions(seller, start, starter_baselines.MIN_PREDICTIONS - 1, within=8 * DAY)
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    assert starter_baselines.create_missing_baselines(now=start + 8 * DAY) == []


def follow(now: datetime) -> list[MonitoringReport]:
    while hourly_summaries.update_summaries(now=now):
        pass
    return alerts.write_reports(now=now)


def again(settled: datetime) -> None:
    """Forget what was summarised from then on, as if it were that day."""
    HealthSummary.objects.filter(start__gte=settled).delete()


def test_a_quiet_day_is_reported_and_tells_nobody(seller: User, settled: datetime) -> None:
    again(settled)
    store_predictions(seller, settled, 240, within=DAY)
    reports = follow(settled + DAY + HOUR)
    day = next(report for report in reports if report.period == "day")
    assert not day.breached and "No drift" in day.summary
    assert {finding["state"] for finding in day.figures["findings"]} == {"stable", "not_enough_data"}
    assert not any(report.notifies or report.asks_retraining for report in reports)
    assert any("Not enough data" in report.summary for report in reports if report.period == "hour")
    assert notifications.send_report_alerts() == 0
    assert follow(settled + DAY + HOUR) == []


def test_a_summary_that_can_not_be_read_keeps_none_of_the_others_from_being_watched(
    seller: User, settled: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    again(settled)
    store_predictions(seller, settled, 240, within=DAY)
    while hourly_summaries.update_summaries(now=settled + DAY + HOUR):
        pass
    broken = (
        HealthSummary.objects.of_period(Period.HOUR).filter(start__gte=settled, drift__isnull=False).earliest("start")
    )
    HealthSummary.objects.filter(pk=broken.pk).update(drift={"rows": "many"})
    reports = alerts.write_reports(now=settled + DAY + HOUR)
    assert {report.period for report in reports} == {"hour", "day"}
    assert broken.start not in {report.start for report in reports if report.period == "hour"}
    assert f"Health summary {broken.pk} can't be compared" in caplog.text


class Receiver(BaseHTTPRequestHandler):
    received: list[Any] = []
    status = 200

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).received.append(json.loads(content))
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def webhook(settings: Any) -> Iterator[type[Receiver]]:
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.ALERT_WEBHOOK_URL = f"http://127.0.0.1:{server.server_port}/"
    Receiver.received, Receiver.status = [], 200
    yield Receiver
    server.shutdown()
    server.server_close()


def test_drift_is_told_once_and_asks_for_retraining_which_starts(
    seller: User, scientist: User, settled: datetime, webhook: type[Receiver], settings: Any
) -> None:
    settings.RETRAIN_ON_DRIFT = True
    again(settled)
    for number in range(24):
        store_predictions(seller, settled + number * HOUR, 70, words=SPANISH)
    for row in Prediction.objects.filter(finished_at__gte=settled)[:50]:
        store_answer(row, right=False, review="open")
    reports = follow(settled + DAY + HOUR)
    breached = [report for report in reports if report.breached]
    assert len(breached) == 25
    told = [report for report in breached if report.notifies]
    assert 1 <= len(told) < 4 and told[0] == breached[0]  # another column may join in later
    day = breached[-1]
    assert day.period == "day" and "language" in day.summary
    finding = next(each for each in day.figures["findings"] if each["column"] == "language")
    examples = Prediction.objects.filter(pk__in=finding["rows"])
    assert len(examples) == 20 and all(row.title.startswith(SPANISH) for row in examples)
    assert [report for report in reports if report.asks_retraining] == [day]

    webhook.status = 500
    assert notifications.send_report_alerts() == len(told)  # the mails
    webhook.status = 200
    assert notifications.send_report_alerts() == len(told)  # what the webhook didn't take
    assert notifications.send_report_alerts() == 0
    assert [message.to for message in mail.outbox] == [[scientist.email]] * len(told)
    assert "language" in mail.outbox[0].body and "language" in webhook.received[-1]["text"]

    training.answer_reports()
    runs = TrainingRun.objects.all()
    assert runs and {(run.trigger, run.report) for run in runs} == {("report", day)}
    assert {run.modality for run in runs} == ({day.modality} if day.modality else {"text", "image"})

    # The next day is as Spanish: nobody is told again, nor is another run asked for.
    for number in range(24):
        store_predictions(seller, settled + DAY + number * HOUR, 70, words=SPANISH)
    later = follow(settled + 2 * DAY + HOUR)
    assert later[-1].breached and later[-1].period == "day"
    assert not any({"language"} == set(report.figures["breaches"]) and report.notifies for report in later)
    assert not any(report.asks_retraining for report in later)


def test_a_mail_that_nobody_got_is_sent_again(scientist: User, administrator: User, settings: Any) -> None:
    User.objects.create_user("viewer@shop.example", is_staff=True)  # may read no reports
    report = MonitoringReport.objects.create(summary="Drift in language.", breached=True, notifies=True)
    reachable = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND, settings.EMAIL_PORT = "django.core.mail.backends.smtp.EmailBackend", 1
    assert notifications.send_report_alerts() == 0
    report.refresh_from_db()
    assert report.mailed_at is None
    settings.EMAIL_BACKEND = reachable
    assert notifications.send_report_alerts() == 1
    assert [message.to for message in mail.outbox] == [[administrator.email], [scientist.email]]
    assert notifications.send_report_alerts() == 0


def test_nothing_asks_for_retraining_unless_it_was_switched_on(seller: User, settled: datetime) -> None:
    again(settled)
    store_predictions(seller, settled, 300, words=SPANISH, within=DAY)
    reports = follow(settled + DAY + HOUR)
    assert any(report.breached for report in reports)
    assert not any(report.asks_retraining for report in reports)


def test_retrainings_have_a_cool_down_and_a_cap(db: None, settings: Any) -> None:
    settings.RETRAIN_COOLDOWN_DAYS, settings.RETRAIN_CAP = 7, 2
    ask = MonitoringReport.objects.may_ask_for_retraining
    assert ask()
    report = MonitoringReport.objects.create(summary="Drift.", asks_retraining=True)
    assert not ask()
    MonitoringReport.objects.filter(pk=report.pk).update(created_at=timezone.now() - 8 * DAY)
    assert ask()
    MonitoringReport.objects.create(summary="Drift.", asks_retraining=True, created_at=timezone.now() - 20 * DAY)
    assert not ask()


def test_falling_accuracy_is_a_breach(seller: User) -> None:
    start = TODAY - 12 * DAY
    for number in range(12):
        for place, row in enumerate(store_predictions(seller, start + number * DAY, 40, within=3 * HOUR)):
            store_answer(row, right=number < 5 or place % 2 == 0)
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    reports = [report for report in alerts.write_reports(now=TODAY + HOUR) if report.kind == "accuracy"]
    assert reports and reports[-1].breached and "50.0%" in reports[-1].summary
    assert [report.notifies for report in reports] == [True, *[False] * (len(reports) - 1)]


def test_the_task_does_all_of_it_twice_without_harm(seller: User) -> None:
    store_predictions(seller, timezone.now() - 3 * HOUR, 5, within=timedelta(minutes=1))
    for _time in range(2):
        summarise_health()
    assert sum(row.volume["done"] for row in HealthSummary.objects.of_period(Period.DAY)) == 5
    assert not DriftReference.objects.exists()
