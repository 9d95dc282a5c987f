import re

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    generate_totp_secret,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.core import mail
from django.test import Client
from django.urls import reverse

from portal.accounts.roles import Role
from portal.models import User
from tests.support.accounts import PASSWORD

pytestmark = pytest.mark.django_db
SIGN_UP = {"email": "New.Seller@Shop.example", "password1": PASSWORD}


def code_from_mail() -> str:
    found = re.search(r"^([A-Z0-9]{3,}-?[A-Z0-9]{3,})$", mail.outbox[-1].body, re.MULTILINE)
    assert found, mail.outbox[-1].body
    return found[1]


def test_a_seller_signs_up_and_proves_the_address(client: Client) -> None:
    assert client.post(reverse("account_signup"), SIGN_UP).url == reverse("account_email_verification_sent")  # type: ignore[attr-defined]
    assert client.get(reverse("products")).status_code == 302
    client.post(reverse("account_email_verification_sent"), {"code": code_from_mail()})
    assert client.get(reverse("products")).status_code == 200
    user = User.objects.get()
    assert user.email == "new.seller@shop.example"
    assert [group.name for group in user.groups.all()] == [Role.SELLER]
    assert not user.is_staff


def test_a_wrong_code_proves_nothing(client: Client) -> None:
    client.post(reverse("account_signup"), SIGN_UP)
    client.post(reverse("account_email_verification_sent"), {"code": "WRONG1"})
    assert not EmailAddress.objects.get().verified
    assert client.get(reverse("products")).status_code == 302


def test_sign_up_does_not_tell_who_has_an_account(client: Client, seller: User) -> None:
    known = client.post(reverse("account_signup"), {**SIGN_UP, "email": seller.email})
    unknown = Client().post(reverse("account_signup"), SIGN_UP)
    assert known.url == unknown.url  # type: ignore[attr-defined]


@pytest.mark.parametrize("password", ["short", "password1234", "0123456789012"])
def test_weak_passwords_are_refused(client: Client, password: str) -> None:
    client.post(reverse("account_signup"), {**SIGN_UP, "password1": password})
    assert not User.objects.exists()


def log_in(client: Client, password: str = PASSWORD, email: str = "Seller@shop.example") -> object:
    return client.post(reverse("account_login"), {"login": email, "password": password})


def test_log_in_works_in_any_case_and_log_out_ends_it(client: Client, seller: User) -> None:
    assert log_in(client).status_code == 302  # type: ignore[attr-defined]
    assert client.get(reverse("products")).status_code == 200
    client.post(reverse("account_logout"))
    assert client.get(reverse("products")).status_code == 302


def test_guessing_passwords_is_stopped(client: Client, seller: User) -> None:
    for _ in range(5):
        log_in(client, "wrong password")
    log_in(client)
    assert client.get(reverse("products")).status_code == 302


def test_a_forgotten_password_is_replaced(client: Client, seller: User) -> None:
    client.post(reverse("account_reset_password"), {"email": seller.email})
    found = re.search(r"http://testserver(\S+)", mail.outbox[-1].body)
    assert found
    page = client.get(found[1], follow=True)
    address = page.redirect_chain[-1][0]
    assert all(f'name="{field}"' in page.content.decode() for field in ("password1", "password2"))
    new = "another long password"
    client.post(address, {"password1": new, "password2": new})
    assert log_in(client, new).status_code == 302  # type: ignore[attr-defined]
    assert client.get(reverse("products")).status_code == 200


def test_a_second_factor_is_asked_for(client: Client, seller: User, settings: object) -> None:
    settings.MFA_TOTP_TOLERANCE = 1  # type: ignore[attr-defined]  # so that a new code may begin in between
    secret = generate_totp_secret()
    TOTP.activate(seller, secret)
    assert log_in(client).url == reverse("mfa_authenticate")  # type: ignore[attr-defined]
    assert client.get(reverse("products")).status_code == 302
    codes = [format_hotp_value(hotp_value(secret, counter)) for counter in yield_hotp_counters_from_time()]
    wrong = next(code for code in ("000000", "000001", "000002", "000003", "000004") if code not in codes)
    client.post(reverse("mfa_authenticate"), {"code": wrong})
    assert client.get(reverse("products")).status_code == 302
    client.post(reverse("mfa_authenticate"), {"code": codes[1]})
    assert client.get(reverse("products")).status_code == 200


def test_staff_need_a_second_factor_where_it_is_required(client: Client, scientist: User, settings: object) -> None:
    client.force_login(scientist)
    assert client.get("/admin/").status_code == 200
    settings.STAFF_MFA_REQUIRED = True  # type: ignore[attr-defined]
    assert client.get("/admin/").url == reverse("mfa_activate_totp")  # type: ignore[attr-defined]
    TOTP.activate(scientist, generate_totp_secret())
    assert client.get("/admin/").status_code == 200


def test_the_admins_log_in_is_the_sites_own(client: Client) -> None:
    assert reverse("account_login") in client.get("/admin/login/").url  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name",
    [
        "account_login", "account_signup", "account_reset_password", "account_reset_password_done",
    ],
)  # fmt: skip
def test_every_strangers_page_renders(client: Client, name: str) -> None:
    assert client.get(reverse(name)).status_code == 200


@pytest.mark.parametrize(
    "name", ["account_email", "account_change_password", "account_logout", "mfa_index", "account_reauthenticate"]
)
def test_every_account_page_renders(browser: Client, name: str) -> None:
    assert browser.get(reverse(name), follow=True).status_code == 200


def test_no_script_can_read_the_cookies(client: Client, seller: User) -> None:
    log_in(client)
    client.get(reverse("products"))
    assert client.cookies.keys() >= {"sessionid", "csrftoken"}
    assert all(client.cookies[name]["httponly"] for name in ("sessionid", "csrftoken"))
