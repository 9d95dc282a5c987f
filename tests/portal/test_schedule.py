"""Check that every task that must run by itself is scheduled."""

from importlib import import_module

import pytest
from django.apps import apps
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from portal.celery import app
from portal.schedule import BEAT_SCHEDULE


def test_every_task_without_arguments_is_scheduled_or_started_by_a_page() -> None:
    app.loader.import_default_modules()
    ours = {name for name in app.tasks if name.partition(".")[0] in {"classifier", "feedback", "portal", "training"}}
    scheduled = {entry["task"] for entry in BEAT_SCHEDULE.values()}
    assert scheduled <= ours
    assert {name for name in ours - scheduled if name.startswith("feedback.")} == set()


def test_new_answers_enter_the_review_queue_every_minute() -> None:
    entries = [entry for entry in BEAT_SCHEDULE.values() if entry["task"] == "feedback.tasks.place_feedback"]
    assert [entry["schedule"] for entry in entries] == [60.0]


@pytest.mark.django_db
def test_an_upgrade_renames_the_schedules_rows_and_keeps_what_was_edited_in_them() -> None:
    migration = import_module("portal.migrations.0006_schedule_names")
    assert set(migration.NEW_NAMES.values()) <= set(BEAT_SCHEDULE)
    often = IntervalSchedule.objects.create(every=7, period="seconds")
    row = PeriodicTask.objects.create(
        name="archive what is left", task="classifier.tasks.archive_pending", interval=often
    )
    migration.rename(apps, None)
    row.refresh_from_db()
    assert (row.name, row.interval.every) == ("archive pending predictions", 7)
