"""A session that was stolen does not become the account: what matters asks for the password again."""

import re
import time
from typing import Any
from urllib.parse import unquote

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.contrib import admin
from django.test import Client
from django.urls import URLPattern, resolve, reverse
from knox.models import AuthToken
from rest_framework.test import APIClient

from feedback.models import Erasure
from portal.accounts.reauthentication import ASK_THEMSELVES, OPEN, is_guarded
from portal.models import User
from portal.privacy.exporting import build_due
from portal.privacy.models import Export
from portal.privacy.services import request_export
from tests.support.accounts import PASSWORD, confirm_password
from tests.support.url_patterns import all_url_patterns

pytestmark = pytest.mark.django_db
NEW = "thief@elsewhere.example"
SECOND = "second@shop.example"
SENSITIVE = {
    "account_email",
    "account_set_password",
    "export_ask",
    "export_fetch",
    "mfa_activate_totp",
    "mfa_deactivate_totp",
    "mfa_download_recovery_codes",
    "mfa_generate_recovery_codes",
    "mfa_view_recovery_codes",
    "token_create",
}


def account_routes() -> list[URLPattern]:
    return [entry for address, entry in all_url_patterns() if address.startswith(("account/", "accounts/"))]


def is_asking(response: Any) -> bool:
    return response.status_code == 302 and response.url.startswith(reverse("account_reauthenticate"))


def everything() -> list[object]:
    """Every row of accounts, with all its values."""
    models = (User, EmailAddress, AuthToken, Export, Erasure, Authenticator)
    return [list(model.objects.order_by("pk").values()) for model in models]  # type: ignore[attr-defined]


@pytest.fixture
def full_account(seller: User) -> User:
    """A seller with everything that the routes work on: a second address, a token, a copy, a second factor."""
    EmailAddress.objects.create(user=seller, email=SECOND, verified=True)
    AuthToken.objects.create(user=seller)
    request_export(user=seller)
    build_due()
    TOTP.activate(seller, generate_totp_secret())
    RecoveryCodes.activate(seller)
    return seller


def test_every_address_of_the_account_pages_is_judged() -> None:
    """Add a new one to SENSITIVE here; or, when it need not ask, to OPEN or ASK_THEMSELVES with the reason."""
    names = {entry.name for entry in account_routes()}
    assert names == SENSITIVE | OPEN | ASK_THEMSELVES
    assert not SENSITIVE & (OPEN | ASK_THEMSELVES)


@pytest.mark.parametrize("name", sorted(SENSITIVE))
@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
@pytest.mark.parametrize("age", ["never", "long ago"])
def test_a_stale_session_is_asked_and_changes_nothing(
    name: str, method: str, age: str, browser: Client, full_account: User
) -> None:
    if age == "long ago":
        confirm_password(browser)
        age_the_proof(browser)
    arguments = [Export.objects.get().pk] if name == "export_fetch" else []
    before = everything()
    response = getattr(browser, method)(reverse(name, args=arguments), {"email": SECOND, "action_remove": ""})
    assert is_asking(response)
    assert everything() == before


def age_the_proof(client: Client) -> None:
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] = time.time() - 301
    session.save()


@pytest.mark.parametrize("data", [{"action_add": "", "email": NEW}, {"action_primary": "", "email": SECOND}])
def test_logging_in_alone_is_no_fresh_proof(data: dict[str, str], client: Client, seller: User) -> None:
    """A session may be stolen right after the log-in."""
    client.post(reverse("account_login"), {"login": seller.email, "password": PASSWORD})
    assert is_asking(client.post(reverse("account_email"), data))


def test_the_proof_is_the_sessions_own(browser: Client, seller: User) -> None:
    confirm_password(browser)
    thief = Client()
    thief.force_login(seller)
    assert is_asking(thief.post(reverse("token_create")))
    assert not AuthToken.objects.exists()


def test_a_stolen_copy_of_the_cookie_does_not_become_fresh_with_the_owners_proof(browser: Client) -> None:
    thief = Client()
    thief.cookies["sessionid"] = browser.cookies["sessionid"].value
    assert thief.get(reverse("products")).status_code == 200
    confirm_password(browser)
    assert thief.get(reverse("products")).url.startswith(reverse("account_login"))  # type: ignore[attr-defined]
    assert browser.post(reverse("token_create")).status_code == 200


@pytest.mark.parametrize("name", ["account", "account_email", "account_change_password", "mfa_activate_totp"])
def test_no_page_of_the_account_stays_in_a_cache(name: str, browser: Client) -> None:
    confirm_password(browser)
    assert "no-store" in browser.get(reverse(name))["Cache-Control"]


# What was interrupted goes on


def interrupted(client: Client, name: str, data: dict[str, str] | None = None) -> Any:
    """Post to a page that asks for the password, give it, and return the answer and whatever it redirects to."""
    asked = client.post(reverse(name), data or {})
    assert is_asking(asked)
    page = client.get(asked.url)
    assert "confirm that it’s you" in page.content.decode()
    (goal,) = re.findall(r'name="next" value="([^"]+)"', page.content.decode())
    wrong = client.post(reverse("account_reauthenticate"), {"password": "wrong", "next": goal})
    assert "This password is wrong." in wrong.content.decode()
    return client.post(reverse("account_reauthenticate"), {"password": PASSWORD, "next": goal}, follow=True)


def test_a_token_is_made_once_the_password_is_given(browser: Client, seller: User) -> None:
    page = interrupted(browser, "token_create")
    shown = re.search(r'id="new-token" value="([^"]+)"', page.content.decode())
    assert shown
    program = APIClient()
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {shown[1]}")
    assert program.get("/api/v1/products").status_code == 200


def test_a_copy_is_asked_for_once_the_password_is_given(browser: Client, seller: User) -> None:
    interrupted(browser, "export_ask")
    assert Export.objects.get().user == seller


def test_an_address_that_was_typed_in_is_not_lost(browser: Client, seller: User) -> None:
    page = interrupted(browser, "account_email", {"action_add": "", "email": NEW})
    assert NEW in page.content.decode() and page.redirect_chain[-1][0] == reverse("account_email_verification_sent")


def test_a_mistake_in_what_was_typed_in_is_shown_with_the_form(browser: Client, seller: User) -> None:
    page = interrupted(browser, "account_email", {"action_add": "", "email": "no address"}).content.decode()
    assert 'value="no address"' in page and f'action="{reverse("account_email")}"' in page


@pytest.mark.parametrize(("action", "left"), [("action_primary", {SECOND: True}), ("action_remove", {})])
def test_addresses_are_changed_once_the_password_is_given(
    action: str, left: dict[str, bool], browser: Client, seller: User
) -> None:
    EmailAddress.objects.create(user=seller, email=SECOND, verified=True)
    interrupted(browser, "account_email", {action: "", "email": SECOND})
    found = EmailAddress.objects.filter(email=SECOND).values_list("email", "primary")
    assert dict(found) == left


def test_a_copy_is_downloaded_from_the_account_page_after_the_password(browser: Client, seller: User) -> None:
    """A download would leave the page that asks for the password standing."""
    request_export(user=seller)
    build_due()
    address = reverse("export_fetch", args=[Export.objects.get().pk])
    asked = browser.get(address)
    assert is_asking(asked)
    assert "Download" in browser.get(asked.url).content.decode()
    after = browser.post(asked.url, {"password": PASSWORD, "next": reverse("account")})
    assert after.url == reverse("account")  # type: ignore[attr-defined]
    assert browser.get(address)["Content-Type"] == "application/zip"


@pytest.mark.parametrize("name", ["token_create", "export_ask"])
def test_a_reload_after_the_password_shows_the_account_page(name: str, browser: Client) -> None:
    confirm_password(browser)
    assert browser.get(reverse(name)).url == reverse("account")  # type: ignore[attr-defined]


def test_the_second_factor_is_a_proof_too(browser: Client, full_account: User) -> None:
    asked = browser.post(reverse("token_create"))
    page = browser.get(asked.url).content.decode()  # type: ignore[attr-defined]
    other = re.search(rf'href="({reverse("mfa_reauthenticate")}[^"]*)"[^>]*>([^<]+)', page)
    assert other and "next=" in other[1] and other[2] == "Use a code instead"
    code = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()[0]
    data = {"code": code, "next": reverse("token_create")}
    assert 'id="new-token"' in browser.post(reverse("mfa_reauthenticate"), data).content.decode()


@pytest.mark.parametrize(("name", "field"), [("account_reauthenticate", "password"), ("mfa_reauthenticate", "code")])
def test_guessing_is_stopped(name: str, field: str, browser: Client, full_account: User) -> None:
    answers = [browser.post(reverse(name), {field: "000000"}) for _ in range(11)]
    assert answers[-1].status_code == 429
    assert is_asking(browser.post(reverse("token_create")))


# Accounts without a password


@pytest.mark.parametrize("name", [*sorted(SENSITIVE - {"export_fetch"}), "account_erase"])
def test_without_password_and_factor_the_way_leads_over_the_mail(name: str, browser: Client, seller: User) -> None:
    seller.set_unusable_password()
    seller.save()
    browser.force_login(seller)
    before = everything()
    page = browser.post(reverse(name), {"email": NEW, "action_add": ""}, follow=True)
    assert page.redirect_chain[-1][0] == reverse("account_reset_password")
    assert "no password yet" in page.content.decode()
    assert everything() == before


def test_without_password_the_second_factor_lets_one_be_set(browser: Client, full_account: User) -> None:
    full_account.set_unusable_password()
    full_account.save()
    browser.force_login(full_account)
    asked = browser.get(reverse("account_change_password"), follow=True)
    assert asked.redirect_chain[-1][0].startswith(reverse("mfa_reauthenticate"))
    code = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()[0]
    browser.post(reverse("mfa_reauthenticate"), {"code": code, "next": reverse("account_set_password")})
    new = "another long password"
    browser.post(reverse("account_set_password"), {"password1": new, "password2": new})
    full_account.refresh_from_db()
    assert full_account.check_password(new)


# Staff and programs


def test_the_admins_pages_on_accounts_ask_too(client: Client, administrator: User, seller: User) -> None:
    client.force_login(administrator)
    before = everything()
    own = [administrator.pk]
    for name, arguments in [
        ("portal_user_change", own), ("portal_user_add", []), ("auth_user_password_change", own),
        ("portal_user_erase", [seller.pk]), ("auth_group_add", []), ("account_emailaddress_add", []),
    ]:  # fmt: skip
        address = reverse(f"admin:{name}", args=arguments)
        assert is_asking(client.get(address)) and is_asking(client.post(address, {"password1": "x", "email": NEW}))
    assert everything() == before
    assert client.get(reverse("admin:portal_user_changelist")).status_code == 200
    confirm_password(client)
    assert client.get(reverse("admin:portal_user_change", args=own)).status_code == 200


def test_the_admin_has_no_way_of_its_own_to_a_new_password(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    data = {
        "old_password": PASSWORD,
        "new_password1": "another long password",
        "new_password2": "another long password",
    }
    assert client.post(reverse("admin:password_change"), data).url == reverse("account_change_password")  # type: ignore[attr-defined]
    administrator.refresh_from_db()
    assert administrator.check_password(PASSWORD)


@pytest.mark.parametrize("name", ["account_set_password", "admin:auth_user_password_change", "admin:portal_user_add"])
def test_a_new_password_that_was_interrupted_lies_in_no_session(name: str, client: Client, administrator: User) -> None:
    client.force_login(administrator)
    address = reverse(name, args=[administrator.pk] if "change" in name else [])
    asked = client.post(address, {"email": NEW, "password1": "hunter2hunter2", "password2": "hunter2hunter2"})
    assert is_asking(asked) and address in unquote(asked.url)  # type: ignore[attr-defined]
    assert "hunter2" not in str(dict(client.session))
    after = client.post(asked.url, {"password": PASSWORD, "next": address})  # type: ignore[attr-defined]
    assert after.url == address  # type: ignore[attr-defined]


def test_every_model_of_accounts_in_the_admin_asks() -> None:
    labels = {"account", "auth", "authtoken", "knox", "mfa", "sessions"}
    registered = [m for m in admin.site._registry if m is User or m._meta.app_label in labels]
    assert registered
    for model in registered:
        match = resolve(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add"))
        assert is_guarded(match, "GET") and is_guarded(match, "POST")


def test_the_api_offers_nothing_of_the_account() -> None:
    """What a token, or a session without the password, may do by the API: products, predictions, categories."""
    routes = {address.removeprefix("api/") for address, _ in all_url_patterns() if address.startswith("api/v1/")}
    words = ("product", "prediction", "categories", "v1/<anything:rest>", "v1/")
    assert all(route == "v1/" or any(word in route for word in words[:4]) for route in routes), routes
    assert not [route for route in routes if re.search("token|account|user|email|password|export|2fa|mfa", route)]


@pytest.mark.parametrize("name", ["account", "account_email", "token_create", "export_ask", "account_change_password"])
def test_a_token_opens_no_page_of_the_account(name: str, api: APIClient) -> None:
    assert api.post(reverse(name)).status_code in (302, 405)
    assert api.get(reverse(name)).url.startswith(reverse("account_login"))


@pytest.mark.parametrize("name", ["export_fetch", "token_revoke"])
def test_anothers_objects_are_not_found_with_a_fresh_proof(name: str, browser: Client, other_seller: User) -> None:
    token, _secret = AuthToken.objects.create(user=other_seller)
    request_export(user=other_seller)
    build_due()
    confirm_password(browser)
    ask, key = (browser.post, token.pk) if name == "token_revoke" else (browser.get, Export.objects.get().pk)
    assert ask(reverse(name, args=[key])).status_code == 404


def test_anothers_address_is_neither_made_primary_nor_removed(browser: Client, other_seller: User) -> None:
    confirm_password(browser)
    before = everything()
    for action in ("action_primary", "action_remove", "action_send"):
        browser.post(reverse("account_email"), {action: "", "email": other_seller.email})
    assert everything() == before
