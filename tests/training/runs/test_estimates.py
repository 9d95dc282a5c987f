"""Estimates of how long runs take."""

from datetime import timedelta

import pytest
from django.utils import timezone

from training.fit import recipes
from training.models import Dataset, TrainingRun
from training.runs import estimates

pytestmark = pytest.mark.django_db


def ended(seconds: float, texts: int, recipe: str = "head") -> None:
    counts = {"rows": texts, "with_text": texts, "with_photo": 0}
    dataset = Dataset.objects.create(checksum=f"{seconds}-{texts}", manifest={"splits": {"train": counts}})
    now = timezone.now()
    TrainingRun.objects.create(
        modality="text",
        recipe=recipes.named_recipe("text", recipe).to_json(),
        dataset=dataset,
        state=TrainingRun.State.HELD,
        started_at=now - timedelta(seconds=seconds),
        finished_at=now,
    )


def test_every_recipe_has_a_time_that_grows_with_the_products_and_the_machines_slowness(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for modality, name in recipes.NAMED:
        monkeypatch.setattr(estimates, "machine_speed", lambda: estimates.REFERENCE_SPEED)
        few, many = (estimates.estimate_duration(modality, name, count) for count in (100, 10_000))
        assert few and many
        assert not few.is_measured
        assert few.seconds < many.seconds
        monkeypatch.setattr(estimates, "machine_speed", lambda: estimates.REFERENCE_SPEED / 10)
        slow = estimates.estimate_duration(modality, name, 10_000)
        assert slow and slow.seconds > many.seconds
    assert estimates.estimate_duration("image", "lora", 100) is None


def test_earlier_runs_are_believed_rather_than_the_machines_speed() -> None:
    ended(100, 1_000)
    ended(300, 1_000)
    ended(110, 1_000)
    ended(9_000, 10, recipe="full")
    found = estimates.estimate_duration("text", "head", 2_000)
    assert found is not None
    assert found.is_measured
    assert found.seconds == pytest.approx(190, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12, "under a minute"), (61, "about 1 minute"), (1_500, "about 25 minutes"), (9_000, "about 2.5 hours")],
)
def test_durations_are_written_in_words(seconds: float, words: str) -> None:
    assert str(estimates.DurationEstimate(seconds, is_measured=True)) == words
