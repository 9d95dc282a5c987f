from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from classifier.models import Category, Deployment, Fault, ModelVersion, Prediction, ShadowAnswer
from classifier.registry import traffic, variants
from feedback.experiments.counts import (
    VersionCounts,
    find_uncounted_period,
    first_choice_over_time,
    read_version_periods,
    sum_by_version,
)
from feedback.models import Feedback
from feedback.monitoring import hourly_summaries
from portal.models import User
from tests.support.accounts import logged_in_client
from tests.support.experiments import an_hour_ago, live_counts, store_answered_predictions
from tests.support.model_versions import live_version_name, register_variant

Review = Feedback.Review


@pytest.fixture
def candidate(db: None, tmp_path: Path) -> ModelVersion:
    return register_variant(tmp_path / "candidate", "A new one.")


def test_answers_count_for_the_version_that_was_shown(seller: User, candidate: ModelVersion) -> None:
    old = ModelVersion.objects.get(name=live_version_name())
    store_answered_predictions(seller, old, rank=1, count=5)
    store_answered_predictions(seller, old, rank=3, count=3)
    store_answered_predictions(seller, old, rank=None, count=2)
    store_answered_predictions(seller, candidate, rank=1, review=Review.ACCEPTED, count=4)
    store_answered_predictions(seller, candidate, rank=2, review=Review.ACCEPTED)
    store_answered_predictions(seller, candidate, rank=1, review=Review.REJECTED, count=9)  # left out
    store_answered_predictions(seller, candidate, rank=1, review=Review.FLAGGED, count=9)
    Fault.objects.create(version=candidate, rows=7, error="ValueError")
    tallies = live_counts(an_hour_ago())
    assert set(tallies) == {old.pk, candidate.pk}
    one, two = tallies[old.pk], tallies[candidate.pk]
    assert (one.answered, one.first, one.five, one.answers) == (10, 5, 8, 10)
    assert (two.answered, two.first, two.answers, two.failed) == (23, 4, 5, 7)
    assert (two.right, two.reviewed) == (4, 5)
    assert one.times.percentile(0.5) == pytest.approx(11.0, rel=0.05) and one.times.percentile(0.95) > 12
    assert live_counts(an_hour_ago(), "image") == {}


def test_stored_hours_add_up_to_the_counts_of_all_rows(seller: User, candidate: ModelVersion) -> None:
    old = ModelVersion.objects.get(name=live_version_name())
    now = timezone.now().replace(minute=30)
    since = now - timedelta(hours=5, minutes=20)  # 50 minutes into an hour
    rows = [
        *store_answered_predictions(seller, old, rank=1, review=Review.ACCEPTED, count=64),
        *store_answered_predictions(seller, candidate, rank=None, count=64),
    ]
    for place, row in enumerate(rows):
        row.finished_at = now - timedelta(minutes=6 * (place % 64 + 1))
    Prediction.objects.bulk_update(rows, ["finished_at"])
    for row in rows[:32]:
        shadow = ShadowAnswer.objects.create(prediction=row, version=candidate, best="mug", milliseconds=3.0)
        ShadowAnswer.objects.filter(pk=shadow.pk).update(created_at=row.finished_at)
    Fault.objects.create(version=old, rows=3, error="ValueError", created_at=now - timedelta(hours=3))

    def counted() -> tuple[dict[int, VersionCounts], dict[int, VersionCounts]]:
        periods = read_version_periods("text", since, now)
        return sum_by_version(periods, is_shadow=False), sum_by_version(periods, is_shadow=True)

    assert find_uncounted_period(since, now) == (since, now - timedelta(hours=2))  # nothing was summarised yet
    assert counted()[0][old.pk].answered == 20
    hourly_summaries.update_summaries(now=now)
    assert find_uncounted_period(since, now) is None
    live, shadows = counted()
    of_old, of_new, shadow = live[old.pk], live[candidate.pk], shadows[candidate.pk]
    assert (of_old.answered, of_old.first, of_old.reviewed, of_old.right, of_old.failed) == (53, 53, 53, 53, 3)
    assert (of_new.answered, of_new.answers, of_new.first, of_new.times.total()) == (53, 53, 0, 53)
    assert (shadow.answered, shadow.reviewed, shadow.times.total()) == (32, 32, 32)
    points = first_choice_over_time(read_version_periods("text", since, now), since, now)[old.pk]
    assert sum(share.total for _at, share in points) == 53
    assert [at for at, _share in points] == sorted(at for at, _share in points) and points[-1][0] <= now

    Feedback.objects.filter(prediction__in=rows[30:40]).update(review=Review.REJECTED, reviewed_at=timezone.now())
    hourly_summaries.update_summaries(now=now)
    assert (counted()[0][old.pk].answers, counted()[1][candidate.pk].reviewed) == (43, 30)


def test_a_shadow_is_measured_on_the_same_reviewed_answers(seller: User, candidate: ModelVersion) -> None:
    old = ModelVersion.objects.get(name=live_version_name())
    mug, guitar = Category.objects.order_by("slug")[:2]
    for number, row in enumerate(store_answered_predictions(seller, old, rank=1, review=Review.ACCEPTED, count=4)):
        best = mug if number else guitar
        ShadowAnswer.objects.create(
            prediction=row, version=candidate, best=best.slug, agrees=best == mug, milliseconds=5.0
        )
    for row in store_answered_predictions(seller, old, rank=1, count=2):
        ShadowAnswer.objects.create(prediction=row, version=candidate, error="ValueError")
    tally = sum_by_version(read_version_periods("text", an_hour_ago(), timezone.now()), is_shadow=True)[candidate.pk]
    assert (tally.right, tally.reviewed) == (3, 4) == (tally.agreed, tally.compared)
    assert (tally.answered, tally.failed) == (4, 2)
    assert tally.times.percentile(0.5) == pytest.approx(5.0, rel=0.05) and tally.times.total() == 4


def test_the_page_compares_versions_and_marks_missing_data(
    scientist: User, seller: User, candidate: ModelVersion
) -> None:
    old = ModelVersion.objects.get(name=live_version_name())
    variants.start_test(candidate, weight=20)
    store_answered_predictions(seller, old, rank=1, count=60)
    store_answered_predictions(seller, old, rank=None, count=60)
    store_answered_predictions(seller, candidate, rank=1, count=40)
    page = logged_in_client(scientist).get(reverse("experiment", args=["text"])).content.decode()
    for words in (
        "Live, 80%", "Live, 20%", "50.0%", "n 120", "over 99%",
        "Not enough data for candidate", "<svg",
        "not enough data: 0 of 30", "Experiment started",
    ):  # fmt: skip
        assert words in page, words
    for verb in ("promote", "stop"):
        assert reverse(f"admin:classifier_variant_{verb}", args=[candidate.pk]) in page
    for days in ("1", "30", "nonsense", "9" * 50):
        assert logged_in_client(scientist).get(reverse("experiments"), {"days": days}).status_code == 200
    assert logged_in_client(scientist).get(reverse("experiment", args=["smell"])).status_code == 404


def test_a_scientist_tests_promotes_and_stops_after_confirming(scientist: User, candidate: ModelVersion) -> None:
    client, before = logged_in_client(scientist), live_version_name()

    def act(verb: str, **posted: str) -> str:
        address = reverse(f"admin:classifier_variant_{verb}", args=[candidate.pk])
        assert "<form" in client.get(address).content.decode()
        return client.post(address, posted, follow=True).content.decode()

    assert "Nothing was changed." in act("test", share="100")
    assert "Nothing was changed." in act("test", share="ten")
    assert "Nothing was changed. The live versions have changed." in act("test", share="10", seen="something else")
    assert "is under test" in act("test", share="10", note="first try", seen=traffic.traffic_state("text"))
    latest = Deployment.objects.first()
    assert latest is not None
    assert (latest.kind, latest.deployed_by, latest.note) == ("test", scientist, "first try")
    assert "was stopped" in act("stop")
    assert live_version_name() == before
    assert "runs as a shadow now" in act("shadow")
    assert "is under test" in act("test", share="10")
    assert "has all traffic now" in act("promote")
    assert live_version_name() == "candidate"
    page = client.get(reverse("admin:classifier_deployment_changelist")).content.decode()
    assert "Shadow started" in page and "candidate 10%" in page
    assert client.get(reverse("admin:classifier_fault_changelist")).status_code == 200


def test_changing_live_versions_needs_the_permission(scientist: User, browser: Client, candidate: ModelVersion) -> None:
    variants.start_test(candidate, weight=10)
    scientist.groups.clear()
    scientist.user_permissions.add(Permission.objects.get(codename="view_variant"))
    for client in (logged_in_client(scientist), browser):
        for verb in ("test", "shadow", "stop", "promote"):
            address = reverse(f"admin:classifier_variant_{verb}", args=[candidate.pk])
            assert client.post(address).status_code in (302, 403)
    assert [variant.weight for variant in traffic.live_variants("text")] == [90, 10]
    page = logged_in_client(scientist).get(reverse("experiments")).content.decode()
    assert "Promote" not in page and "Live, 10%" in page
    assert browser.get(reverse("experiments")).status_code == 302
