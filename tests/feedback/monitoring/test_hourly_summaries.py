import io

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.utils import timezone

from classifier.models import Category, DistributionDetector, Prediction
from common.locks import Lock
from feedback.models import Feedback, HealthSummary, Period, Review, VersionHour
from feedback.monitoring import hourly_summaries
from feedback.review.decisions import record_review, undo_review
from feedback.statistics.counters import AnswerStatistics, PredictionCounts
from portal.models import User
from tests.support.accounts import make_user
from tests.support.locks import held_elsewhere
from tests.support.traffic import DAY, HOUR, TODAY, live_pair, store_answer, store_predictions, stored_summary


def test_an_hour_is_summarised_once_it_is_over(seller: User) -> None:
    hour = TODAY - DAY
    store_predictions(seller, hour, 10)
    Prediction.objects.create(seller=seller, title="Broken", state="failed", finished_at=hour + HOUR / 2)
    assert hourly_summaries.update_summaries(now=hour + HOUR) == []  # its last answers may still come in
    assert hourly_summaries.update_summaries(now=hour + HOUR + hourly_summaries.GRACE_PERIOD) == [hour]
    assert hourly_summaries.update_summaries(now=hour + HOUR + hourly_summaries.GRACE_PERIOD) == []
    volume = PredictionCounts.from_json(stored_summary(hour).volume)
    assert (volume.done, volume.failed, volume.by_breakdown["language"]) == (10, 0, {"en": 10})
    assert volume.wait.percentile(0.5) == pytest.approx(2000, rel=0.05)
    failed = HealthSummary.objects.get(period="hour", start=hour, text_version=None)
    assert (failed.volume["done"], failed.volume["failed"]) == (0, 1)
    assert stored_summary(hour, "day").volume["done"] == 10


def test_products_without_a_photo_count_with_the_pair_that_serves(seller: User) -> None:
    hour = TODAY - DAY
    rows = store_predictions(seller, hour, 10)
    Prediction.objects.filter(pk__in=[row.pk for row in rows[:4]]).update(image_version=None, image_embedding=None)
    quiet = store_predictions(seller, hour + HOUR, 3)
    Prediction.objects.filter(pk__in=[row.pk for row in quiet]).update(image_version=None)
    for row in [*rows[:2], quiet[0]]:
        store_answer(row)
    hourly_summaries.update_summaries(now=hour + 3 * HOUR)
    assert (stored_summary(hour).volume["done"], stored_summary(hour + HOUR).volume["done"]) == (10, 3)
    assert stored_summary(hour, "day").answers["tally"][0] == 3
    store_answer(quiet[1])
    hourly_summaries.update_summaries(now=hour + 3 * HOUR)
    assert stored_summary(hour, "day").answers["tally"][0] == 4


def test_hours_add_up_to_what_one_pass_over_the_day_counts(seller: User) -> None:
    day = TODAY - DAY
    for number in range(4):
        for place, row in enumerate(store_predictions(seller, day + number * HOUR, 12)):
            store_answer(row, right=place % 3 > 0, review="accepted" if place % 2 else "open")
    hourly_summaries.update_summaries(now=day + DAY + HOUR)
    assert (
        HealthSummary.objects.of_period(Period.HOUR).filter(text_version=None).count() == 24
    )  # empty hours are known too
    whole = stored_summary(day, "day")
    volume, answers = PredictionCounts.from_json(whole.volume), AnswerStatistics.from_json(whole.answers)
    assert volume.done == 48 and volume.by_breakdown["category"].total() == 48
    tally = answers.counts
    assert (tally.answers, tally.first, tally.reviewed, tally.right) == (48, 32, 24, 16)
    assert sum(each.answers for each in answers.by_breakdown["category"].values()) == 48
    assert answers.labels.total() == 48 and sum(cell.rows for cell in answers.confusions.values()) == 24
    assert all(len(cell.examples) <= 5 for cell in answers.confusions.values())
    by_model = answers.accuracy_on_common_products()
    assert by_model["text"] and by_model["ensemble"] and by_model["text"].rows == 24
    assert by_model["ensemble"].value == pytest.approx(16 / 24)


def test_later_answers_and_reviews_are_counted_in_the_hour_of_their_product(seller: User) -> None:
    hour = TODAY - 3 * DAY
    rows = store_predictions(seller, hour, 6)
    hourly_summaries.update_summaries(now=hour + 2 * HOUR)
    assert stored_summary(hour).answers["tally"][0] == 0
    for row in rows[:4]:
        store_answer(row, review="open")
    hourly_summaries.update_summaries(now=hour + 3 * HOUR)
    assert stored_summary(hour).answers["tally"][:2] == [4, 4] == stored_summary(hour, "day").answers["tally"][:2]
    said = Feedback.objects.get(prediction=rows[0])
    assert said.category
    said.correction = Category.objects.exclude(slug=said.category.slug)[0]
    said.review, said.reviewed_at = "corrected", timezone.now()
    said.save()
    Feedback.objects.filter(prediction=rows[1]).update(review="rejected", reviewed_at=timezone.now())
    hourly_summaries.update_summaries(now=hour + 3 * HOUR)
    tally = AnswerStatistics.from_json(stored_summary(hour, "day").answers).counts
    assert (tally.answers, tally.reviewed, tally.right) == (3, 1, 0)


def test_sellers_are_told_apart_by_how_long_they_have_been_here(seller: User, other_seller: User) -> None:
    hour = TODAY - DAY
    User.objects.filter(pk=seller.pk).update(date_joined=hour - 400 * DAY)
    User.objects.filter(pk=other_seller.pk).update(date_joined=hour - 29.99 * DAY)
    for row in store_predictions(seller, hour, 6)[:2]:
        store_answer(row)
    store_answer(store_predictions(other_seller, hour, 4)[3], right=False)  # its seller's 30 days were over by then
    hourly_summaries.update_summaries(now=hour + 2 * HOUR)
    whole = stored_summary(hour, "day")
    volume, answers = PredictionCounts.from_json(whole.volume), AnswerStatistics.from_json(whole.answers)
    assert volume.by_breakdown["cohort"] == {"longer": 6, "month": 1, "year": 3}
    assert {name: (tally.answers, tally.first) for name, tally in answers.by_breakdown["cohort"].items()} == {
        "longer": (2, 2), "year": (1, 0),
    }  # fmt: skip


def test_inputs_unlike_anything_known_are_counted_among_those_that_could_be_judged(seller: User) -> None:
    hour = TODAY - DAY
    rows = store_predictions(seller, hour, 10)
    DistributionDetector.objects.update_or_create(version_id=live_pair()[0], defaults={"arrays": b""})
    DistributionDetector.objects.filter(version=live_pair()[0]).update(created_at=hour + HOUR / 2)
    Prediction.objects.filter(pk=rows[0].pk).update(unusual="both")  # what was judged was judged
    Prediction.objects.filter(pk__in=[row.pk for row in rows[-2:]]).update(unusual="text")
    hourly_summaries.update_summaries(now=hour + 2 * HOUR)
    volume = PredictionCounts.from_json(stored_summary(hour, "day").volume)
    assert volume.unusual == {"": 3, "text": 2, "both": 1} and volume.done == 10
    unlike = volume.unusual_share()
    assert unlike and (unlike.value, unlike.rows) == (0.5, 6)


def test_a_backlog_is_worked_off_in_bounded_steps_and_the_command_counts_anew(seller: User) -> None:
    start = TODAY - 5 * DAY
    rows = store_predictions(seller, start, 5)
    now = start + 60 * HOUR + hourly_summaries.GRACE_PERIOD
    assert len(hourly_summaries.update_summaries(now=now)) == 48
    assert len(hourly_summaries.update_summaries(now=now)) == 12
    rows[0].delete()
    out = io.StringIO()
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=out)
    assert "Hours written" in out.getvalue()
    assert stored_summary(start).volume["done"] == 4 == stored_summary(start, "day").volume["done"]
    with pytest.raises(CommandError, match="is not a day"):
        call_command("summarise", since="yesterday")


def test_late_answers_are_counted_in_bounded_steps_the_longest_waiting_first(
    seller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hourly_summaries, "MAX_STALE_HOURS_PER_CALL", 2)
    start, now = TODAY - 2 * DAY, TODAY
    rows = [store_predictions(seller, start + number * HOUR, 1)[0] for number in range(5)]
    hourly_summaries.update_summaries(now=now)
    for row in rows:
        store_answer(row)
    for counted in (2, 4, 5, 5):
        hourly_summaries.update_summaries(now=now)
        hours = [
            AnswerStatistics.from_json(stored_summary(start + number * HOUR).answers).counts.answers
            for number in range(5)
        ]
        assert sum(hours) == counted == stored_summary(start, "day").answers["tally"][0]


def test_old_hours_are_forgotten_and_their_days_stay(seller: User, settings: LazySettings) -> None:
    start = TODAY - 40 * DAY
    store_predictions(seller, start, 3)
    hourly_summaries.update_summaries(now=start + 2 * HOUR, since=start)
    assert hourly_summaries.delete_old_hours() > 0
    assert not HealthSummary.objects.of_period(Period.HOUR).filter(start__lt=TODAY - 31 * DAY).exists()
    assert stored_summary(start, "day").volume["done"] == 3
    kept = VersionHour.objects.filter(version=live_pair()[0])
    assert [row.counts["answered"] for row in kept] == [3]
    settings.TRIAL_DAYS = 30
    hourly_summaries.delete_old_hours()
    assert not kept.all().exists()


def test_nothing_is_written_while_another_process_summarises(committed_db: None) -> None:
    with held_elsewhere(Lock.HEALTH_SUMMARIES):
        assert hourly_summaries.update_summaries() == []
        assert not HealthSummary.objects.exists()


def test_hours_are_summarised_while_examples_are_imported(committed_db: None) -> None:
    with held_elsewhere(Lock.EXAMPLE_SPLITS):
        store_predictions(make_user("seller@shop.example"), TODAY - DAY, 2)
        assert hourly_summaries.update_summaries()


def test_what_a_reviewer_takes_back_is_not_counted_any_more(seller: User, scientist: User) -> None:
    start = TODAY - DAY
    (row,) = store_predictions(seller, start, 1)
    store_answer(row, review="open")
    feedback = Feedback.objects.get()
    review = record_review(feedback=feedback, verdict=Review.Verdict.ACCEPT, reviewer=scientist)
    hourly_summaries.update_summaries(now=start + HOUR + hourly_summaries.GRACE_PERIOD)
    assert AnswerStatistics.from_json(stored_summary(start).answers).counts.reviewed == 1
    undo_review(review=review, reviewer=scientist)
    hourly_summaries.update_summaries(now=start + HOUR + 2 * hourly_summaries.GRACE_PERIOD)
    assert AnswerStatistics.from_json(stored_summary(start).answers).counts.reviewed == 0


def test_a_product_that_fits_nowhere_is_one_that_the_models_got_wrong(seller: User) -> None:
    start = TODAY - DAY
    (row,) = store_predictions(seller, start, 1)
    Feedback.objects.create(
        prediction=row,
        seller=seller,
        verdict="none",
        review="accepted",
        inclusion_probability=0.1,
        reviewed_at=timezone.now(),
    )
    hourly_summaries.update_summaries(now=start + HOUR + hourly_summaries.GRACE_PERIOD)
    counted = AnswerStatistics.from_json(stored_summary(start).answers)
    assert (counted.counts.reviewed, counted.counts.right, counted.ensemble.rows) == (
        1,
        0,
        1,
    ) and not counted.confusions
    Feedback.objects.update(verdict="top5", rank=1, category=Category.objects.all()[0], review="homeless")
    call_command("summarise", since=f"{start:%Y-%m-%d}", stdout=io.StringIO())
    again = AnswerStatistics.from_json(stored_summary(start).answers)
    assert (again.counts.none, again.counts.first, again.counts.reviewed, again.counts.right) == (0, 1, 1, 0)
