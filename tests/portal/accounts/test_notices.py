"""Who is told by mail of what was done to an account, and in which words."""

import re
import smtplib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.test import Client, RequestFactory
from django.urls import reverse
from knox.models import AuthToken

from portal.accounts import notices
from portal.models import User
from portal.privacy.models import Export
from tests.support.accounts import PASSWORD, confirm_password

pytestmark = pytest.mark.django_db
NEW = "new@elsewhere.example"
SECOND = "second@shop.example"
UNPROVEN = "unproven@elsewhere.example"
NEW_PASSWORD = "another long password"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
Commits = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def owner(seller: User) -> User:
    """A seller with a confirmed second address, and one that was never confirmed."""
    EmailAddress.objects.create(user=seller, email=SECOND, verified=True)
    EmailAddress.objects.create(user=seller, email=UNPROVEN, verified=False)
    return seller


@pytest.fixture
def act(browser: Client, owner: User, django_capture_on_commit_callbacks: Commits) -> Iterator[Callable[..., Any]]:
    """Post to a page as the owner, with a fresh proof, and commit."""
    confirm_password(browser)
    browser.defaults |= {"HTTP_USER_AGENT": FIREFOX, "REMOTE_ADDR": "203.0.113.77"}

    def post(name: str, /, **data: str) -> Any:
        mail.outbox.clear()
        with django_capture_on_commit_callbacks(execute=True):
            return browser.post(reverse(name), data)

    yield post


def sent() -> dict[str, set[str]]:
    """Return the subjects of the notices, each with the addresses that it went to, one message each."""
    told: dict[str, set[str]] = {}
    for message in mail.outbox:
        assert len(message.to) == 1
        if "Your code" not in message.subject:
            told.setdefault(message.subject.removeprefix("Aisle: "), set()).add(message.to[0])
    return told


def test_a_new_token_is_mailed_to_all_confirmed_addresses(act: Callable[..., Any], owner: User) -> None:
    act("token_create")
    assert sent() == {"An API token was created": {owner.email, SECOND}}
    assert not any(token.token_key in message.body for token in AuthToken.objects.all() for message in mail.outbox)


def test_the_owner_is_mailed_when_an_export_is_requested(act: Callable[..., Any], owner: User) -> None:
    act("export_ask")
    assert sent() == {"A copy of your data was requested": {owner.email, SECOND}}
    act("export_ask")
    assert not sent(), "one is being made already"


def test_a_confirmed_new_address_is_mailed_to_the_others(act: Callable[..., Any], owner: User) -> None:
    act("account_email", action_add="", email=NEW)
    assert [message.to for message in mail.outbox] == [[NEW]] and not sent()
    code = re.search(r"^([A-Z0-9]{3,}-?[A-Z0-9]{3,})$", mail.outbox[-1].body, re.MULTILINE)
    assert code
    act("account_email_verification_sent", code=code[1])
    assert EmailAddress.objects.get(email=NEW).verified
    assert sent() == {"An address was added to your account": {owner.email, SECOND}}


def test_a_change_of_the_primary_address_is_mailed_to_the_old_one(act: Callable[..., Any], owner: User) -> None:
    old = owner.email
    act("account_email", action_primary="", email=SECOND)
    owner.refresh_from_db()
    assert owner.email == SECOND
    assert sent() == {"Your primary address was changed": {old, SECOND}}


def test_the_removed_address_is_mailed_too(act: Callable[..., Any], owner: User) -> None:
    act("account_email", action_remove="", email=SECOND)
    assert sent() == {"An address was removed from your account": {owner.email, SECOND}}
    act("account_email", action_remove="", email=UNPROVEN)
    assert sent() == {"An address was removed from your account": {owner.email}}, "it may be a stranger's"


def test_the_owner_is_mailed_when_the_password_is_changed(act: Callable[..., Any], owner: User) -> None:
    act("account_change_password", oldpassword=PASSWORD, password1=NEW_PASSWORD, password2=NEW_PASSWORD)
    assert sent() == {"Your password was changed": {owner.email, SECOND}}


def test_the_owner_is_mailed_when_the_password_is_reset(
    client: Client, owner: User, django_capture_on_commit_callbacks: Commits
) -> None:
    client.post(reverse("account_reset_password"), {"email": owner.email})
    link = re.search(r"http://testserver(\S+)", mail.outbox[-1].body)
    assert link
    address = client.get(link[1], follow=True).redirect_chain[-1][0]
    mail.outbox.clear()
    with django_capture_on_commit_callbacks(execute=True):
        client.post(address, {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD})
    assert sent() == {"Your password was reset": {owner.email, SECOND}}


def test_the_owner_is_mailed_when_the_second_factor_changes(
    act: Callable[..., Any], owner: User, browser: Client, settings: Any
) -> None:
    EmailAddress.objects.filter(email=UNPROVEN).delete()  # allauth asks for all addresses to be confirmed first
    settings.MFA_TOTP_TOLERANCE = 1  # so that a new code may begin in between
    form = browser.get(reverse("mfa_activate_totp")).context["form"]
    counter = list(yield_hotp_counters_from_time())[1]
    act("mfa_activate_totp", code=format_hotp_value(hotp_value(form.secret, counter)))
    assert Authenticator.objects.filter(user=owner, type="totp").exists()
    assert sent() == {"Two-factor log-in is on": {owner.email, SECOND}}
    act("mfa_generate_recovery_codes")
    assert sent() == {"New recovery codes were created": {owner.email, SECOND}}
    act("mfa_deactivate_totp")
    assert sent() == {"Two-factor log-in is off": {owner.email, SECOND}}


def test_an_erasure_is_mailed_to_all_confirmed_addresses(act: Callable[..., Any], owner: User) -> None:
    act("account_erase", password=PASSWORD)
    assert sent() == {"Your account will be erased": {owner.email, SECOND}}


def test_staff_who_change_password_or_address_do_not_go_unnoticed(
    client: Client, administrator: User, owner: User, django_capture_on_commit_callbacks: Commits
) -> None:
    client.force_login(administrator)
    confirm_password(client)
    new = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("admin:auth_user_password_change", args=[owner.pk]), {**new, "password2": "differs"})
    assert not sent()
    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("admin:auth_user_password_change", args=[owner.pk]), new)
    assert sent() == {"Your password was changed": {owner.email, SECOND}}
    mail.outbox.clear()
    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("admin:portal_user_change", args=[owner.pk]), {"email": NEW, "is_active": "on"})
    assert User.objects.get(pk=owner.pk).email == NEW
    assert sent() == {"Your primary address was changed": {owner.email, SECOND}}


def test_staff_who_add_change_or_delete_an_address_do_not_go_unnoticed(
    client: Client, administrator: User, owner: User, django_capture_on_commit_callbacks: Commits
) -> None:
    client.force_login(administrator)
    confirm_password(client)
    second = EmailAddress.objects.get(email=SECOND)
    for name, arguments, data, subject in [
        ("add", [], {"user": owner.pk, "email": NEW, "verified": "on"}, "An address was added to your account"),
        ("change", [second.pk], {"user": owner.pk, "email": SECOND}, "Your primary address was changed"),
        ("delete", [second.pk], {"post": "yes"}, "An address was removed from your account"),
    ]:
        known = set(EmailAddress.objects.filter(user=owner, verified=True).values_list("email", flat=True))
        mail.outbox.clear()
        with django_capture_on_commit_callbacks(execute=True):
            client.post(reverse(f"admin:account_emailaddress_{name}", args=arguments), data)
        assert sent() == {subject: known}
    assert EmailAddress.objects.filter(email=NEW).exists() and not EmailAddress.objects.filter(email=SECOND).exists()


def test_a_change_that_is_rolled_back_is_not_mailed(act: Callable[..., Any], owner: User) -> None:
    """The mail goes out after the commit; without one, none does."""
    request = RequestFactory().post("/")
    notices.notify(request, owner, notices.TOKEN_CREATED)
    assert not mail.outbox


# The words

NOTICES = [
    "account/email/email_added", "account/email/email_changed", "account/email/email_deleted",
    "account/email/password_changed", "account/email/password_set", "account/email/password_reset",
    "account/email/token_created", "account/email/export_asked", "mfa/email/totp_activated",
    "mfa/email/totp_deactivated", "mfa/email/recovery_codes_generated",
]  # fmt: skip


@pytest.mark.parametrize("template", NOTICES)
def test_a_notice_says_when_from_where_and_what_to_do(
    template: str, owner: User, rf: RequestFactory, django_capture_on_commit_callbacks: Commits
) -> None:
    request = rf.post("/", headers={"user-agent": FIREFOX}, REMOTE_ADDR="203.0.113.77")
    with django_capture_on_commit_callbacks(execute=True):
        notices.notify(request, owner, template, to=[SECOND])
    (message,) = mail.outbox
    assert re.search(r"When: \d+ \w+ \d{4}, \d\d:\d\d UTC", message.body)
    assert "From: Firefox on Linux, network 203.0.113.…" in message.body
    assert "If it wasn’t" in message.body and "password" in message.body
    assert "http" not in message.body, "a notice leads nowhere by a click"
    for private in ("113.77", "Mozilla", owner.email, SECOND, UNPROVEN, "{", "&#"):
        assert private not in message.body


@pytest.mark.parametrize(
    ("address", "agent", "words"),
    [
        ("2001:db8:1:2::3", "Mozilla/5.0 (iPhone) AppleWebKit Safari/604.1", "Safari on iPhone, network 2001:db8:1::"),
        (
            "203.0.113.7",
            "Mozilla/5.0 (Windows NT) Chrome/140 Edg/140",
            "Edge on Windows, network 203.0.113.…",
        ),
        ("203.0.113.7", "curl/8", "an unknown browser, network 203.0.113.…"),
        ("203.0.113.7", "Android <b>{{ x }}", "Android, network 203.0.113.…"),
        ("unix:", "", "an unknown browser, network an unknown network"),
    ],
)
def test_a_notice_names_only_the_network_of_the_client(
    address: str, agent: str, words: str, owner: User, rf: RequestFactory, django_capture_on_commit_callbacks: Commits
) -> None:
    request = rf.post("/", headers={"user-agent": agent}, REMOTE_ADDR=address)
    with django_capture_on_commit_callbacks(execute=True):
        notices.notify(request, owner, notices.TOKEN_CREATED)
    assert f"From: {words}\n" in mail.outbox[0].body


# A mail server that is down


class Down(EmailBackend):
    """A mail server that can't be reached."""

    def send_messages(self, messages: Any) -> int:
        raise ConnectionRefusedError


class Refuses(EmailBackend):
    """A mail server that refuses one of the recipients."""

    def send_messages(self, messages: Any) -> int:
        if messages[0].to != [SECOND]:
            raise smtplib.SMTPRecipientsRefused({})
        return super().send_messages(messages)


def test_a_mail_server_that_is_down_breaks_nothing(act: Callable[..., Any], owner: User, settings: Any) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.Down"
    assert act("token_create").status_code == 200
    assert act("export_ask").status_code == 302
    assert act("account_email", action_remove="", email=SECOND).status_code == 302
    changed = act("account_change_password", oldpassword=PASSWORD, password1=NEW_PASSWORD, password2=NEW_PASSWORD)
    assert changed.status_code == 302
    assert AuthToken.objects.exists() and Export.objects.exists()
    assert not EmailAddress.objects.filter(email=SECOND).exists()
    owner.refresh_from_db()
    assert owner.check_password(NEW_PASSWORD)


def test_one_address_that_is_refused_keeps_no_other_from_its_notice(
    act: Callable[..., Any], owner: User, settings: Any
) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.Refuses"
    act("token_create")
    assert sent() == {"An API token was created": {SECOND}}
