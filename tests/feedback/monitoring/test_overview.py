"""The admin's first screen."""

import pytest
from django.test import Client
from django.urls import reverse

from classifier.models import Modality, ModelVersion
from classifier.registry import deployments, traffic
from feedback.fraud_cases.services import appeal_case, confirm_case
from feedback.models import Case
from feedback.monitoring.dashboard.overview import sparkline_points
from portal.models import User
from tests.support.accounts import logged_in_client
from tests.support.model_versions import register_variant


def first_screen(user: User) -> str:
    response = logged_in_client(user).get(reverse("admin:index"))
    assert response.status_code == 200
    return response.content.decode()


def test_it_says_whether_it_is_healthy_in_five_figures_beside_the_week_before(scientist: User, busy: None) -> None:
    page = first_screen(scientist)
    for name in ("Predictions", "Time to result, median", "Failed", "one of the five", "Accuracy, reviewed"):
        assert name in page
    assert "the seven days before: 0.00%" in page
    assert page.count("<polyline") >= 3
    assert "answers to review" in page and "0 open fraud cases" in page


def test_it_says_what_changed(scientist: User, busy: None, tmp_path: object) -> None:
    version = register_variant(tmp_path / "b", "b")  # type: ignore[operator]
    deployments.deploy_version(version)
    assert f"Deployment: {traffic.current_champion(Modality.TEXT)}" in first_screen(scientist)


def test_a_sellers_answer_to_a_case_waits_for_who_judges(scientist: User, seller: User) -> None:
    assert "appeal of a fraud case" not in first_screen(scientist)
    case = Case.objects.create(seller=seller, favourite="beauty", figures={})
    confirm_case(case=case, by=scientist, reason="On purpose.")
    appeal_case(seller=seller, note="They are guitars.")
    assert "1 appeal of a fraud case" in first_screen(scientist)


def test_a_version_that_was_held_back_waits_for_who_may_deploy(scientist: User, tmp_path: object) -> None:
    assert "held back" not in first_screen(scientist)
    version = register_variant(tmp_path / "b", "b")  # type: ignore[operator]
    ModelVersion.objects.filter(pk=version.pk).update(gate={"decision": "held"})
    assert "1 model version held back" in first_screen(scientist)
    deployments.deploy_version(version)
    assert "held back" not in first_screen(scientist)


def test_before_anything_was_counted_it_says_so(scientist: User) -> None:
    assert "Nothing has been counted yet" in first_screen(scientist)


@pytest.mark.parametrize(
    ("values", "points"),
    [([], ""), ([3], ""), ([None, None], ""), ([0, 10], "1.0,26.0 119.0,2.0"), ([5, None, 5], "1.0,26.0 119.0,26.0")],
)
def test_a_line_goes_from_its_lowest_to_its_highest(values: list[float | None], points: str) -> None:
    assert sparkline_points(values) == points


def test_staff_without_the_right_see_no_figures(db: None, client: Client) -> None:
    client.force_login(User.objects.create_user("plain@shop.example", "x" * 20, is_staff=True))
    assert "The last seven days" not in client.get(reverse("admin:index"), follow=True).content.decode()
