from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from feedback.fraud_cases.services import clear_case, confirm_case, uphold_case
from feedback.models import Case
from portal.models import User

pytestmark = pytest.mark.django_db

NOTE = "We’re checking some of your answers"
PAGES = ("products", "account")
METHOD = ("fraud", "peer", "surprise", "posterior", "lying", "suspicious", "model", "flag", "musical")


@pytest.fixture
def case(seller: User) -> Case:
    return Case.objects.create(seller=seller, favourite="musical-instruments", figures={})


def shown(browser: Client, words: str = NOTE) -> list[bool]:
    return [words in browser.get(reverse(page)).content.decode() for page in PAGES]


def test_a_seller_hears_of_a_confirmed_case_only(
    browser: Client, other_seller: User, scientist: User, case: Case, settings: Any
) -> None:
    assert shown(browser) == [False, False]
    assert browser.get(reverse("appeal")).status_code == 404
    confirm_case(case=case, by=scientist, reason="On purpose.")
    assert shown(browser) == [True, True]
    other = Client()
    other.force_login(other_seller)
    assert shown(other) == [False, False] and other.get(reverse("appeal")).status_code == 404
    settings.FRAUD_APPEALS = False
    assert shown(browser) == [False, False] and browser.get(reverse("appeal")).status_code == 404
    settings.FRAUD_APPEALS = True
    clear_case(case=case, by=scientist, reason="A mistake of ours.")
    assert shown(browser) == [False, False] and browser.get(reverse("appeal")).status_code == 404


def test_one_note_lands_on_the_case(browser: Client, scientist: User, case: Case) -> None:
    confirm_case(case=case, by=scientist, reason="A liar: posterior 0.999.")
    page = browser.get(reverse("appeal")).content.decode()
    assert "<textarea" in page
    for note in ("", "   ", "x" * 2001):
        answer = browser.post(reverse("appeal"), {"note": note})
        assert answer.status_code == 422 and "error" in answer.content.decode()
    page = browser.post(reverse("appeal"), {"note": "They are <guitars>.\r\nReally."}, follow=True).content.decode()
    assert "They are &lt;guitars&gt;.<br>Really." in page and "<textarea" not in page
    browser.post(reverse("appeal"), {"note": "Something else."})
    case.refresh_from_db()
    assert case.appeal == "They are <guitars>.\nReally." and case.appealed_at
    assert shown(browser, "We have your note") == [True, True]
    uphold_case(case=case, by=scientist, reason="They are no guitars.")
    assert shown(browser, "read your note about your answers") == [True, True]
    page = browser.get(reverse("appeal")).content.decode()
    assert "A person has read it" in page and "They are no guitars" not in page and "<textarea" not in page


def test_the_pages_never_tell_the_method(browser: Client, scientist: User, case: Case) -> None:
    confirm_case(case=case, by=scientist, reason="A liar: posterior 0.999.")
    page = browser.get(reverse("appeal")).content.decode()
    main = page[page.index("<main") : page.index("</main")].lower()
    assert [word for word in METHOD if word in main] == []


def test_who_is_not_logged_in_is_asked_to(client: Client, case: Case) -> None:
    assert client.get(reverse("appeal")).status_code == 302
    assert client.post(reverse("appeal"), {"note": "Hello"}).status_code == 302
    case.refresh_from_db()
    assert case.appeal == ""
