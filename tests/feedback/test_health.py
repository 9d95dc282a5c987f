import io
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.utils import timezone

from classifier.models import Category, Familiar, ModelVersion, Prediction
from feedback import notifying
from feedback.health import first_days, references, summarising, watching
from feedback.health.figures import Answers, Volume
from feedback.models import DriftReference, Feedback, HealthSummary, MonitoringReport, Period
from feedback.tasks import summarise_health
from portal.models import User
from training import tasks as training
from training.models import TrainingRun

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
ENGLISH = "the new case with a black cover for your phone"
SPANISH = "la funda negra para el móvil con una correa de color"


def pair() -> tuple[int, int]:
    versions = dict(ModelVersion.objects.values_list("modality", "pk"))
    return versions["text"], versions["image"]


def predict(
    seller: User, at: datetime, count: int, *, words: str = ENGLISH, confidence: float = 0.8, within: timedelta = HOUR
) -> list[Prediction]:
    """Store predictions that were finished in the hour: mugs mostly, and guitars."""
    mug, guitar = Category.objects.order_by("slug").values_list("slug", flat=True)[:2]
    text, image = pair()
    chance = random.Random(f"{at} {count}")
    noise = np.random.default_rng(chance.randrange(1 << 30))
    rows = []
    for number in range(count):
        slug = mug if chance.random() < 0.7 else guitar
        top = min(max(confidence + chance.uniform(-0.1, 0.1), 0.3), 0.99)
        finished = at + (number + 0.5) / count * within
        rows.append(
            Prediction(
                seller=seller,
                title=f"{words} {chance.randrange(10 ** chance.randint(1, 9))}",
                state="done",
                text_version_id=text,
                image_version_id=image,
                probabilities={slug: top},
                text_probabilities={mug: 0.6, guitar: 0.4},
                image_probabilities={guitar: 0.6, mug: 0.4},
                top5=[{"category": slug, "slug": slug, "probability": top}],
                text_embedding=noise.normal(size=8).tolist(),
                image_embedding=noise.normal(size=8).tolist(),
                milliseconds=40.0,
                created_at=finished - timedelta(seconds=2),
                finished_at=finished,
            )
        )
    return Prediction.objects.bulk_create(rows)


def answer(row: Prediction, *, right: bool = True, review: str = "accepted", inclusion: float | None = 0.1) -> None:
    slug = row.top5[0]["slug"]  # type: ignore[index]
    categories = Category.objects.order_by("slug")
    chosen = categories.get(slug=slug) if right else categories.exclude(slug=slug)[0]
    Feedback.objects.create(
        prediction=row,
        seller=row.seller,
        category=chosen,
        rank=1 if right else None,
        verdict="top5" if right else "other",
        review=review,
        inclusion=inclusion,
        reviewed_at=timezone.now() if review != "open" else None,
    )


def summary(start: datetime, period: str = "hour") -> HealthSummary:
    return HealthSummary.objects.get(period=period, start=start, text_version=pair()[0], image_version=pair()[1])


def test_an_hour_is_summarised_once_it_is_over(seller: User) -> None:
    hour = TODAY - DAY
    predict(seller, hour, 10)
    Prediction.objects.create(seller=seller, title="Broken", state="failed", finished_at=hour + HOUR / 2)
    assert summarising.summarise(now=hour + HOUR) == []  # its last answers may still come in
    assert summarising.summarise(now=hour + HOUR + summarising.GRACE) == [hour]
    assert summarising.summarise(now=hour + HOUR + summarising.GRACE) == []
    volume = Volume.from_json(summary(hour).volume)
    assert (volume.done, volume.failed, volume.by["language"]) == (10, 0, {"en": 10})
    assert volume.wait.percentile(0.5) == pytest.approx(2000, rel=0.05)
    failed = HealthSummary.objects.get(period="hour", start=hour, text_version=None)
    assert (failed.volume["done"], failed.volume["failed"]) == (0, 1)
    assert summary(hour, "day").volume["done"] == 10


def test_products_without_a_photo_count_with_the_pair_that_serves(seller: User) -> None:
    hour = TODAY - DAY
    rows = predict(seller, hour, 10)
    Prediction.objects.filter(pk__in=[row.pk for row in rows[:4]]).update(image_version=None, image_embedding=None)
    quiet = predict(seller, hour + HOUR, 3)
    Prediction.objects.filter(pk__in=[row.pk for row in quiet]).update(image_version=None)
    for row in [*rows[:2], quiet[0]]:
        answer(row)
    summarising.summarise(now=hour + 3 * HOUR)
    assert (summary(hour).volume["done"], summary(hour + HOUR).volume["done"]) == (10, 3)
    assert summary(hour, "day").answers["tally"][0] == 3
    answer(quiet[1])
    summarising.summarise(now=hour + 3 * HOUR)
    assert summary(hour, "day").answers["tally"][0] == 4


def test_hours_add_up_to_what_one_pass_over_the_day_counts(seller: User) -> None:
    day = TODAY - DAY
    for number in range(4):
        for place, row in enumerate(predict(seller, day + number * HOUR, 12)):
            answer(row, right=place % 3 > 0, review="accepted" if place % 2 else "open")
    summarising.summarise(now=day + DAY + HOUR)
    assert HealthSummary.objects.of(Period.HOUR).filter(text_version=None).count() == 24  # empty hours are known too
    whole = summary(day, "day")
    volume, answers = Volume.from_json(whole.volume), Answers.from_json(whole.answers)
    assert volume.done == 48 and volume.by["category"].total() == 48
    tally = answers.tally
    assert (tally.answers, tally.first, tally.reviewed, tally.right) == (48, 32, 24, 16)
    assert sum(each.answers for each in answers.by["category"].values()) == 48
    assert answers.labels.total() == 48 and sum(count for count, _examples in answers.cells.values()) == 24
    assert all(len(examples) <= 5 for _count, examples in answers.cells.values())
    by_model = answers.by_model()
    assert by_model["text"] and by_model["ensemble"] and by_model["text"].rows == 24
    assert by_model["ensemble"].value == pytest.approx(16 / 24)


def test_later_answers_and_reviews_are_counted_in_the_hour_of_their_product(seller: User) -> None:
    hour = TODAY - 3 * DAY
    rows = predict(seller, hour, 6)
    summarising.summarise(now=hour + 2 * HOUR)
    assert summary(hour).answers["tally"][0] == 0
    for row in rows[:4]:
        answer(row, review="open")
    summarising.summarise(now=hour + 3 * HOUR)
    assert summary(hour).answers["tally"][:2] == [4, 4] == summary(hour, "day").answers["tally"][:2]
    said = Feedback.objects.get(prediction=rows[0])
    assert said.category
    said.correction = Category.objects.exclude(slug=said.category.slug)[0]
    said.review, said.reviewed_at = "corrected", timezone.now()
    said.save()
    Feedback.objects.filter(prediction=rows[1]).update(review="rejected", reviewed_at=timezone.now())
    summarising.summarise(now=hour + 3 * HOUR)
    tally = Answers.from_json(summary(hour, "day").answers).tally
    assert (tally.answers, tally.reviewed, tally.right) == (3, 1, 0)


def test_sellers_are_told_apart_by_how_long_they_have_been_here(seller: User, other_seller: User) -> None:
    hour = TODAY - DAY
    User.objects.filter(pk=seller.pk).update(date_joined=hour - 400 * DAY)
    User.objects.filter(pk=other_seller.pk).update(date_joined=hour - 29.99 * DAY)
    for row in predict(seller, hour, 6)[:2]:
        answer(row)
    answer(predict(other_seller, hour, 4)[3], right=False)  # its seller's 30 days were over by then
    summarising.summarise(now=hour + 2 * HOUR)
    whole = summary(hour, "day")
    volume, answers = Volume.from_json(whole.volume), Answers.from_json(whole.answers)
    assert volume.by["cohort"] == {"longer": 6, "month": 1, "year": 3}
    assert {name: (tally.answers, tally.first) for name, tally in answers.by["cohort"].items()} == {
        "longer": (2, 2), "year": (1, 0),
    }  # fmt: skip


def test_inputs_unlike_anything_known_are_counted_among_those_that_could_be_judged(seller: User) -> None:
    hour = TODAY - DAY
    rows = predict(seller, hour, 10)
    Familiar.objects.update_or_create(version_id=pair()[0], defaults={"arrays": b""})
    Familiar.objects.filter(version=pair()[0]).update(created_at=hour + HOUR / 2)
    Prediction.objects.filter(pk=rows[0].pk).update(unusual="both")  # what was judged was judged
    Prediction.objects.filter(pk__in=[row.pk for row in rows[-2:]]).update(unusual="text")
    summarising.summarise(now=hour + 2 * HOUR)
    volume = Volume.from_json(summary(hour, "day").volume)
    assert volume.unusual == {"": 3, "text": 2, "both": 1} and volume.done == 10
    unlike = volume.unlike()
    assert unlike and (unlike.value, unlike.rows) == (0.5, 6)


def test_a_backlog_is_worked_off_in_bounded_steps_and_the_command_counts_anew(seller: User) -> None:
    start = TODAY - 5 * DAY
    rows = predict(seller, start, 5)
    now = start + 60 * HOUR + summarising.GRACE
    assert len(summarising.summarise(now=now)) == 48
    assert len(summarising.summarise(now=now)) == 12
    rows[0].delete()
    out = io.StringIO()
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=out)
    assert "Hours written" in out.getvalue()
    assert summary(start).volume["done"] == 4 == summary(start, "day").volume["done"]
    with pytest.raises(CommandError, match="is no day"):
        call_command("summarise", since="yesterday")


def test_old_hours_are_forgotten_and_their_days_stay(seller: User) -> None:
    start = TODAY - 40 * DAY
    predict(seller, start, 3)
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    assert summarising.forget_hours() > 0
    assert not HealthSummary.objects.of(Period.HOUR).filter(start__lt=TODAY - 31 * DAY).exists()
    assert summary(start, "day").volume["done"] == 3


def test_nothing_is_written_while_another_process_summarises(committed_db: None) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        from django.db import connection

        with summarising.alone() as is_mine:
            assert is_mine
            held.set()
            done.wait(10)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    with summarising.alone() as is_mine:
        assert not is_mine
    done.set()
    thread.join()


# Drift ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def settled(seller: User) -> datetime:
    """A shop with eight quiet days behind it, so that there is a reference; return the day after them."""
    start = TODAY - 10 * DAY
    for number in range(8):
        predict(seller, start + number * DAY, 60, within=DAY)
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    made = first_days.make_missing(now=start + 8 * DAY)
    assert [reference.origin for reference in made] == ["first days"]
    return start + 8 * DAY


def test_the_first_days_become_the_reference_of_versions_without_a_snapshot(seller: User, settled: datetime) -> None:
    assert first_days.make_missing(now=settled) == []
    known = references.load(pair())
    assert known is not None
    assert known.summary.rows == 420 and set(known.projections) == {"text", "image"}
    assert known.summary.categories["language"] == Counter(en=420)


def test_too_few_predictions_make_no_reference(seller: User) -> None:
    start = TODAY - 9 * DAY
    predict(seller, start, first_days.LEAST - 1, within=8 * DAY)
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    assert first_days.make_missing(now=start + 8 * DAY) == []


def follow(now: datetime) -> list[MonitoringReport]:
    while summarising.summarise(now=now):
        pass
    return watching.watch(now=now)


def again(settled: datetime) -> None:
    """Forget what was summarised from then on, as if it were that day."""
    HealthSummary.objects.filter(start__gte=settled).delete()


def test_a_quiet_day_is_reported_and_tells_nobody(seller: User, settled: datetime) -> None:
    again(settled)
    predict(seller, settled, 240, within=DAY)
    reports = follow(settled + DAY + HOUR)
    day = next(report for report in reports if report.period == "day")
    assert not day.breached and "No drift" in day.summary
    assert {finding["state"] for finding in day.figures["findings"]} == {"stable", "not enough data"}
    assert not any(report.notifies or report.asks_retraining for report in reports)
    assert any("Not enough data" in report.summary for report in reports if report.period == "hour")
    assert notifying.deliver() == 0
    assert follow(settled + DAY + HOUR) == []


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
        predict(seller, settled + number * HOUR, 70, words=SPANISH)
    for row in Prediction.objects.filter(finished_at__gte=settled)[:50]:
        answer(row, right=False, review="open")
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
    assert notifying.deliver() == len(told)  # the mails
    webhook.status = 200
    assert notifying.deliver() == len(told)  # what the webhook didn't take
    assert notifying.deliver() == 0
    assert [message.to for message in mail.outbox] == [[scientist.email]] * len(told)
    assert "language" in mail.outbox[0].body and "language" in webhook.received[-1]["text"]

    training.answer_reports()
    runs = TrainingRun.objects.all()
    assert runs and {(run.trigger, run.report) for run in runs} == {("report", day)}
    assert {run.modality for run in runs} == ({day.modality} if day.modality else {"text", "image"})

    # The next day is as Spanish: nobody is told again, nor is another run asked for.
    for number in range(24):
        predict(seller, settled + DAY + number * HOUR, 70, words=SPANISH)
    later = follow(settled + 2 * DAY + HOUR)
    assert later[-1].breached and later[-1].period == "day"
    assert not any({"language"} == set(report.figures["breaches"]) and report.notifies for report in later)
    assert not any(report.asks_retraining for report in later)


def test_a_mail_that_nobody_got_is_sent_again(scientist: User, administrator: User, settings: Any) -> None:
    User.objects.create_user("viewer@shop.example", is_staff=True)  # may read no reports
    report = MonitoringReport.objects.create(summary="Drift in language.", breached=True, notifies=True)
    reachable = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND, settings.EMAIL_PORT = "django.core.mail.backends.smtp.EmailBackend", 1
    assert notifying.deliver() == 0
    report.refresh_from_db()
    assert report.mailed_at is None
    settings.EMAIL_BACKEND = reachable
    assert notifying.deliver() == 1
    assert [message.to for message in mail.outbox] == [[administrator.email], [scientist.email]]
    assert notifying.deliver() == 0


def test_nothing_asks_for_retraining_unless_it_was_switched_on(seller: User, settled: datetime) -> None:
    again(settled)
    predict(seller, settled, 300, words=SPANISH, within=DAY)
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
        for place, row in enumerate(predict(seller, start + number * DAY, 40, within=DAY)):
            answer(row, right=number < 5 or place % 2 == 0)
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    reports = [report for report in watching.watch(now=TODAY + HOUR) if report.kind == "accuracy"]
    assert reports and reports[-1].breached and "50.0 %" in reports[-1].summary
    assert [report.notifies for report in reports] == [True, *[False] * (len(reports) - 1)]


def test_the_task_does_all_of_it_twice_without_harm(seller: User) -> None:
    predict(seller, timezone.now() - 3 * HOUR, 5, within=timedelta(minutes=1))
    for _time in range(2):
        summarise_health()
    assert sum(row.volume["done"] for row in HealthSummary.objects.of(Period.DAY)) == 5
    assert not DriftReference.objects.exists()
