"""A new password ends other sessions, and API tokens where it is asked for."""

import re

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken
from rest_framework.test import APIClient

from portal.models import User
from tests.support.accounts import PASSWORD

pytestmark = pytest.mark.django_db
NEW = "another long password"
CHANGE = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
RESET = {"password1": NEW, "password2": NEW}
TICKED = re.compile(r'<input[^>]*name="revoke_tokens"[^>]*\bchecked\b')


@pytest.fixture
def thief(seller: User) -> Client:
    """Somebody with a session of the seller."""
    client = Client()
    client.force_login(seller)
    assert client.get(reverse("products")).status_code == 200
    return client


def reset_page(client: Client, user: User) -> str:
    """Follow the link of a reset; return the address of the form."""
    client.post(reverse("account_reset_password"), {"email": user.email})
    link = re.search(r"http://testserver(\S+)", mail.outbox[-1].body)
    assert link
    return str(client.get(link[1], follow=True).redirect_chain[-1][0])


def make_tokens(user: User, count: int = 2) -> list[APIClient]:
    programs = [APIClient() for _ in range(count)]
    for program in programs:
        program.credentials(HTTP_AUTHORIZATION=f"Bearer {AuthToken.objects.create(user=user)[1]}")
    return programs


def test_a_changed_password_ends_the_other_sessions_and_keeps_this_one(browser: Client, thief: Client) -> None:
    browser.post(reverse("account_change_password"), CHANGE)
    assert browser.get(reverse("products")).status_code == 200
    assert thief.get(reverse("products")).url.startswith(reverse("account_login"))  # type: ignore[attr-defined]


def test_a_reset_ends_all_sessions(client: Client, seller: User, thief: Client) -> None:
    client.post(reset_page(client, seller), RESET)
    assert thief.get(reverse("products")).url.startswith(reverse("account_login"))  # type: ignore[attr-defined]


def test_a_wrong_current_password_changes_nothing(browser: Client, seller: User, thief: Client) -> None:
    make_tokens(seller)
    page = browser.post(reverse("account_change_password"), {**CHANGE, "oldpassword": "wrong", "revoke_tokens": "on"})
    assert "This password is wrong." in page.content.decode()
    assert AuthToken.objects.count() == 2 and thief.get(reverse("products")).status_code == 200


def test_a_changed_password_revokes_tokens_where_the_box_is_ticked(
    browser: Client, seller: User, other_seller: User
) -> None:
    (other,), programs = make_tokens(other_seller, 1), make_tokens(seller)
    page = browser.get(reverse("account_change_password")).content.decode()
    assert "Also revoke my 2 API tokens" in page and not TICKED.search(page)
    answer = browser.post(reverse("account_change_password"), {**CHANGE, "revoke_tokens": "on"}, follow=True)
    assert "2 API tokens are revoked." in answer.content.decode()
    assert {program.get("/api/v1/products").status_code for program in programs} == {401}
    assert other.get("/api/v1/products").status_code == 200


def test_a_changed_password_keeps_tokens_where_it_is_not(browser: Client, seller: User) -> None:
    (program,) = make_tokens(seller, 1)
    assert "Also revoke my 1 API token" in browser.get(reverse("account_change_password")).content.decode()
    browser.post(reverse("account_change_password"), CHANGE)
    assert program.get("/api/v1/products").status_code == 200


def test_a_reset_offers_to_revoke_tokens_and_the_box_is_ticked(client: Client, seller: User) -> None:
    programs = make_tokens(seller)
    address = reset_page(client, seller)
    assert TICKED.search(client.get(address).content.decode())
    page = client.post(address, {**RESET, "revoke_tokens": "on"}, follow=True).content.decode()
    assert "2 API tokens are revoked." in page
    assert {program.get("/api/v1/products").status_code for program in programs} == {401}


def test_a_reset_keeps_tokens_where_the_box_was_cleared(client: Client, seller: User) -> None:
    (program,) = make_tokens(seller, 1)
    client.post(reset_page(client, seller), RESET)
    assert program.get("/api/v1/products").status_code == 200


def test_without_tokens_nothing_is_offered(browser: Client, client: Client, seller: User) -> None:
    assert "revoke_tokens" not in browser.get(reverse("account_change_password")).content.decode()
    assert "revoke_tokens" not in client.get(reset_page(client, seller)).content.decode()
