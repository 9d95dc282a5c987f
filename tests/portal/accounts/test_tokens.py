"""API tokens have a name, expire, and show when they were last used."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from portal.accounts import tokens
from portal.models import TokenDetails, User
from tests.support.accounts import confirm_password
from tests.support.api import problem

PRODUCTS = "/api/v1/products"


def request_with(secret: str) -> object:
    return Client().get(PRODUCTS, headers={"Authorization": f"Bearer {secret}"})


@pytest.mark.parametrize(
    ("data", "name", "days"),
    [
        ({"name": "Stock <system>", "days": "30"}, "Stock <system>", 30),
        ({"name": " \u200b "}, "API token", 365),
        ({}, "API token", 365),
    ],
)
def test_a_new_token_has_a_name_and_expires(
    browser: Client, seller: User, data: dict[str, str], name: str, days: int
) -> None:
    confirm_password(browser)
    page = browser.post(reverse("token_create"), data)
    token = AuthToken.objects.select_related("details").get(user=seller)
    assert (token.details.name, round((token.expiry - token.created) / timedelta(days=1))) == (name, days)
    assert page.context["new_token"].startswith(token.token_key)


@pytest.mark.parametrize("data", [{"name": "x" * 61}, {"name": "Shop", "days": "1000"}, {"name": "Shop", "days": "-1"}])
def test_a_token_with_a_wrong_value_is_not_created(browser: Client, data: dict[str, str]) -> None:
    confirm_password(browser)
    page = browser.post(reverse("token_create"), data)
    assert page.status_code == 422 and page.context["token_form"].errors
    assert not AuthToken.objects.exists()


def test_the_last_use_of_a_token_is_shown(browser: Client, seller: User) -> None:
    secret = tokens.create_token(user=seller, name="Stock system", days=365)
    before = browser.get(reverse("account")).content.decode()
    request_with(secret)
    page = browser.get(reverse("account")).content.decode()
    assert "never used" in before and "never used" not in page
    assert "Stock system" in page and "last used just now" in page


def test_the_last_use_is_stored_once_a_minute(seller: User) -> None:
    secret = tokens.create_token(user=seller, name="Stock system", days=365)
    just_before = timezone.now() - timedelta(seconds=30)
    TokenDetails.objects.update(last_used_at=just_before)
    request_with(secret)
    assert TokenDetails.objects.get().last_used_at == just_before


def test_a_token_from_before_names_is_used_and_shown(browser: Client, seller: User) -> None:
    _token, secret = AuthToken.objects.create(user=seller)
    before = browser.get(reverse("account")).content.decode()
    request_with(secret)
    assert "does not expire" in before and "never used" in before
    assert "last used just now" in browser.get(reverse("account")).content.decode()


def test_an_expired_token_is_rejected_with_the_day_and_shown(browser: Client, seller: User) -> None:
    secret = tokens.create_token(user=seller, name="Stock system", days=30)
    AuthToken.objects.update(expiry=timezone.now())
    assert problem(request_with(secret))["code"] == "token_expired"
    assert "expired on" in browser.get(reverse("account")).content.decode()


def test_tokens_are_deleted_a_month_after_they_expired(seller: User) -> None:
    for name, days in (("old", 31), ("recent", 29)):
        tokens.create_token(user=seller, name=name, days=30)
        named = TokenDetails.objects.filter(name=name).values("token")
        AuthToken.objects.filter(pk__in=named).update(expiry=timezone.now() - timedelta(days=days))
    assert tokens.delete_expired() == 1
    assert TokenDetails.objects.get().name == "recent"
