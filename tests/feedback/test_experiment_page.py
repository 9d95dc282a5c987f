from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from classifier import registry, variants
from classifier.models import Category, Deployment, Fault, ModelVersion, Prediction, ShadowAnswer
from feedback.models import Feedback
from feedback.tallies import Tally, first_over_time, tally_live, tally_shadows
from portal.models import User
from tests.classifier.test_registry import serving, variant_of
from tests.portal.test_model_pages import staff

Review = Feedback.Review


@pytest.fixture
def candidate(db: None, tmp_path: Path) -> ModelVersion:
    return variant_of(tmp_path / "candidate", "A new one.")


def answer(
    seller: User, version: ModelVersion, *, rank: int | None, review: str = Review.OPEN, count: int = 1
) -> list[Prediction]:
    """Store answered predictions: the seller chose the category of this rank, or another one."""
    mug, guitar = Category.objects.order_by("slug")[:2]
    rows = [
        Prediction(
            seller=seller,
            title="Mug",
            state="done",
            text_version=version,
            probabilities={},
            top5=[],
            text_probabilities={mug.slug: 0.7, guitar.slug: 0.3},
            passes={"text": {"engine": "torch fp32", "ms": 10.0 + number, "rows": 1}},
            finished_at=timezone.now(),
        )
        for number in range(count)
    ]
    Prediction.objects.bulk_create(rows)
    Feedback.objects.bulk_create(
        Feedback(
            prediction=row,
            seller=seller,
            rank=rank,
            verdict="top5" if rank else "other",
            category=mug if rank == 1 else guitar,
            review=review,
        )
        for row in rows
    )
    return rows


def long_ago() -> datetime:
    return timezone.now() - timedelta(days=1)


def test_answers_are_counted_for_the_version_that_was_shown(seller: User, candidate: ModelVersion) -> None:
    old = ModelVersion.objects.get(name=serving())
    answer(seller, old, rank=1, count=5)
    answer(seller, old, rank=3, count=3)
    answer(seller, old, rank=None, count=2)
    answer(seller, candidate, rank=1, review=Review.ACCEPTED, count=4)
    answer(seller, candidate, rank=2, review=Review.ACCEPTED)
    answer(seller, candidate, rank=1, review=Review.REJECTED, count=9)  # says nothing
    answer(seller, candidate, rank=1, review=Review.FLAGGED, count=9)
    Fault.objects.create(version=candidate, rows=7, error="ValueError")
    tallies = tally_live("text", long_ago())
    assert set(tallies) == {old.pk, candidate.pk}
    one, two = tallies[old.pk], tallies[candidate.pk]
    assert (one.answered, one.first.count, one.five.count, one.first.total) == (10, 5, 8, 10)
    assert (two.answered, two.first.count, two.first.total, two.failed) == (23, 4, 5, 7)
    assert (two.right.count, two.right.total) == (4, 5)
    assert one.p50 == pytest.approx(11.0) and one.p95 is not None and one.p95 > one.p50
    assert tally_live("image", long_ago()) == {}
    points = first_over_time("text", long_ago(), timezone.now())
    assert sum(share.total for _at, share in points[old.pk]) == 10


def test_a_shadow_is_measured_on_the_same_reviewed_answers(seller: User, candidate: ModelVersion) -> None:
    old = ModelVersion.objects.get(name=serving())
    mug, guitar = Category.objects.order_by("slug")[:2]
    for number, row in enumerate(answer(seller, old, rank=1, review=Review.ACCEPTED, count=4)):
        best = mug if number else guitar
        ShadowAnswer.objects.create(
            prediction=row, version=candidate, best=best.slug, agrees=best == mug, milliseconds=5.0
        )
    for row in answer(seller, old, rank=1, count=2):
        ShadowAnswer.objects.create(prediction=row, version=candidate, error="ValueError")
    tally = tally_shadows("text", long_ago())[candidate.pk]
    assert (tally.right.count, tally.right.total) == (3, 4)
    assert (tally.agrees.count, tally.agrees.total) == (3, 4)
    assert (tally.answered, tally.failed, tally.p50) == (4, 2, 5.0)
    assert isinstance(tally, Tally)


def test_the_page_compares_and_says_where_data_is_missing(
    scientist: User, seller: User, candidate: ModelVersion
) -> None:
    old = ModelVersion.objects.get(name=serving())
    variants.start_test(candidate, weight=20)
    answer(seller, old, rank=1, count=60)
    answer(seller, old, rank=None, count=60)
    answer(seller, candidate, rank=1, count=40)
    page = staff(scientist).get(reverse("experiment", args=["text"])).content.decode()
    for words in (
        "Live, 80 %", "Live, 20 %", "50.0 %", "n 120", "over 99 %", "Not enough data to say of candidate", "<svg",
        "not enough data: 0 of 30", "Test started",
    ):  # fmt: skip
        assert words in page, words
    for verb in ("promote", "stop"):
        assert reverse(f"admin:classifier_variant_{verb}", args=[candidate.pk]) in page
    for days in ("1", "30", "nonsense", "9" * 50):
        assert staff(scientist).get(reverse("experiments"), {"days": days}).status_code == 200
    assert staff(scientist).get(reverse("experiment", args=["smell"])).status_code == 404


def test_a_scientist_tests_promotes_and_stops_after_a_question(scientist: User, candidate: ModelVersion) -> None:
    client, before = staff(scientist), serving()

    def act(verb: str, **posted: str) -> str:
        address = reverse(f"admin:classifier_variant_{verb}", args=[candidate.pk])
        assert "<form" in client.get(address).content.decode()
        return client.post(address, posted, follow=True).content.decode()

    assert "Nothing was changed." in act("test", share="100")
    assert "Nothing was changed." in act("test", share="ten")
    assert "Nothing was changed. What serves was changed meanwhile." in act("test", share="10", seen="something else")
    assert "is under test" in act("test", share="10", note="first try", seen=variants.at_work("text"))
    latest = Deployment.objects.first()
    assert latest is not None
    assert (latest.kind, latest.deployed_by, latest.note) == ("test", scientist, "first try")
    assert "was stopped" in act("stop")
    assert serving() == before
    assert "looks on now" in act("shadow")
    assert "is under test" in act("test", share="10")
    assert "serves alone now" in act("promote")
    assert serving() == "candidate"
    page = client.get(reverse("admin:classifier_deployment_changelist")).content.decode()
    assert "Shadow started" in page and "candidate 10 %" in page
    assert client.get(reverse("admin:classifier_fault_changelist")).status_code == 200


def test_without_the_permission_nobody_changes_what_serves(
    scientist: User, browser: Client, candidate: ModelVersion
) -> None:
    variants.start_test(candidate, weight=10)
    scientist.groups.clear()
    scientist.user_permissions.add(Permission.objects.get(codename="view_variant"))
    for client in (staff(scientist), browser):
        for verb in ("test", "shadow", "stop", "promote"):
            address = reverse(f"admin:classifier_variant_{verb}", args=[candidate.pk])
            assert client.post(address).status_code in (302, 403)
    assert [variant.weight for variant in registry.live("text")] == [90, 10]
    page = staff(scientist).get(reverse("experiments")).content.decode()
    assert "Promote" not in page and "Live, 10 %" in page
    assert browser.get(reverse("experiments")).status_code == 302
