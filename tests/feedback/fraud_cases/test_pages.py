from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from feedback.fraud_cases.detection import find_fraud
from feedback.fraud_cases.services import appeal_case, clear_case, confirm_case
from feedback.models import Case
from portal.models import User
from tests.support.accounts import logged_in_client
from tests.support.fraud_answers import FAVOURITE, create_sellers, store_answers

pytestmark = pytest.mark.django_db


@pytest.fixture
def case() -> Case:
    before = timezone.now() - timedelta(hours=1)
    store_answers(create_sellers(14), until=before)
    store_answers(create_sellers(1, "liar"), lies=0.3, until=before, seed=2)
    return find_fraud().opened[0]


def address(case: Case) -> str:
    return reverse("admin:feedback_case_change", args=[case.pk])


def test_the_page_shows_the_evidence(
    scientist: User, case: Case, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    client = logged_in_client(scientist)
    client.get(address(case))
    with django_assert_max_num_queries(20):
        page = client.get(address(case)).content.decode().replace("\u00a0", " ")
    for words in (
        case.seller.email, "12 of 40 products that both models confidently placed elsewhere into Musical Instruments",
        "No other flagged seller favours Musical Instruments", "This seller", "30.0%", "Other sellers, same products",
        "Highest rate that counts as honest", "over 99.9%", "<svg", "most that would be honest", "Product ", "97%",
        "None. Photos are compared with those of all sellers’ products", "Confirm: on purpose", "Clear: not fraud",
        "Not reviewed",
    ):  # fmt: skip
        assert words in page, words
    assert "The account" not in page


def test_a_scientist_confirms_then_clears_with_reasons(scientist: User, case: Case) -> None:
    client, judge = logged_in_client(scientist), reverse("admin:feedback_case_judge", args=[case.pk])
    for posted in ({"verdict": "confirm"}, {"verdict": "confirm", "reason": "  "}, {"reason": "Why not"}):
        answer = client.post(judge, posted)
        assert answer.status_code == 422 and b'role="alert"' in answer.content
    case.refresh_from_db()
    assert case.state == "open"
    page = client.post(judge, {"verdict": "confirm", "reason": "On <purpose>."}, follow=True).content.decode()
    assert "nothing is blocked" in page and "On &lt;purpose&gt;." in page and "Confirm: on purpose" not in page
    page = client.post(judge, {"verdict": "confirm", "reason": "Again."}, follow=True).content.decode()
    assert "Nothing was changed. This case was decided in the meantime." in page
    appeal_case(seller=case.seller, note="They are <guitars>.")
    page = client.get(address(case)).content.decode()
    assert "They are &lt;guitars&gt;." in page and "Keep confirmed" in page
    page = client.post(judge, {"verdict": "uphold", "reason": "They are not."}, follow=True).content.decode()
    assert "Kept confirmed." in page and "Keep confirmed" not in page
    page = client.post(judge, {"verdict": "clear", "reason": "They are guitars."}, follow=True).content.decode()
    assert "never held against the seller again" in page and "Your verdict" not in page
    assert [event.action for event in case.events.all()] == [
        "opened", "confirmed", "appealed", "confirmed", "cleared",
    ]  # fmt: skip


def test_judging_needs_the_permission(scientist: User, browser: Client, case: Case) -> None:
    scientist.groups.clear()
    judge = reverse("admin:feedback_case_judge", args=[case.pk])
    posted = {"verdict": "confirm", "reason": "On purpose."}
    assert logged_in_client(scientist).get(address(case)).status_code == 403
    scientist.user_permissions.add(Permission.objects.get(codename="view_case"))
    assert "Your verdict" not in logged_in_client(scientist).get(address(case)).content.decode()
    assert logged_in_client(scientist).post(judge, posted).status_code == 403
    for where in (judge, address(case)):
        assert browser.post(where, posted).status_code == 302
    case.refresh_from_db()
    assert case.state == "open"


def test_the_list_shows_the_newest_first_and_filters(
    scientist: User, case: Case, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    figures = case.figures
    Case.objects.bulk_create(
        Case(seller=person, favourite=FAVOURITE, figures=figures) for person in create_sellers(120, "another")
    )
    client, address = logged_in_client(scientist), reverse("admin:feedback_case_changelist")
    client.get(address)
    with django_assert_max_num_queries(10):
        page = client.get(address).content.decode()
    assert "12 of 40" in page and "Musical Instruments" in page and case.seller.email not in page
    assert case.seller.email in client.get(address, {"q": case.seller.email}).content.decode()
    assert "another5@" not in client.get(address, {"q": "another"}).content.decode()
    confirm_case(case=case, by=scientist, reason="On purpose.")
    appeal_case(seller=case.seller, note="They are guitars.")
    page = client.get(address, {"appeal": "waiting"}).content.decode()
    assert case.seller.email in page and "another5@" not in page and "Waiting" in page
    page = client.get(address, {"state__exact": "confirmed"}).content.decode()
    assert case.seller.email in page and "another5@" not in page


def test_the_page_lists_earlier_cases(scientist: User, case: Case) -> None:
    clear_case(case=case, by=scientist, reason="A new kind of guitar.")
    later = timezone.now() + timedelta(days=10)
    store_answers([case.seller], lies=0.3, until=later, days=9, seed=5)
    [again] = find_fraud(later + timedelta(hours=1)).opened
    page = logged_in_client(scientist).get(address(again)).content.decode()
    assert "Other cases of this seller" in page and "A new kind of guitar." in page


def test_a_missing_case_redirects_to_the_list(scientist: User) -> None:
    client = logged_in_client(scientist)
    assert client.get(reverse("admin:feedback_case_change", args=[999])).status_code == 302
    assert client.post(reverse("admin:feedback_case_judge", args=[999])).status_code == 404
    page = client.get(reverse("admin:feedback_case_changelist"))
    assert page.status_code == 200
