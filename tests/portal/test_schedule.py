"""Check that every task that must run by itself is scheduled."""

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
