"""Sellers ask to be erased, administrators and the command too."""

import io
from datetime import timedelta

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from feedback.models import Erasure
from portal.models import User
from portal.privacy import erasing
from portal.privacy import services as privacy
from portal.privacy.models import Export, PrivacyEvent
from tests.support.accounts import PASSWORD, confirm_password

pytestmark = pytest.mark.django_db
Via = Erasure.Via


def test_a_seller_asks_waits_and_changes_their_mind(browser: Client, seller: User) -> None:
    wrong = browser.post(reverse("account_erase"), {"password": "not it"})
    assert wrong.status_code == 422 and "This password is wrong." in wrong.content.decode()
    assert not Erasure.objects.exists()
    page = browser.post(reverse("account_erase"), {"password": PASSWORD}, follow=True)
    assert "Keep my account" in page.content.decode()
    asked = Erasure.objects.get()
    assert timedelta(days=6) < asked.due_at - timezone.now() < timedelta(days=8)
    browser.post(reverse("account_erase"), {"password": PASSWORD})
    assert Erasure.objects.count() == 1
    erasing.erase_due()
    assert User.objects.get(pk=seller.pk).is_active
    page = browser.post(reverse("account_erase_cancel"), follow=True)
    assert "Keep my account" not in page.content.decode()
    Erasure.objects.update(due_at=timezone.now() - timedelta(days=1))
    erasing.erase_due()
    assert User.objects.filter(pk=seller.pk).exists()
    assert [message.subject for message in mail.outbox] == [
        "Aisle: Your account will be erased", "Aisle: Your account stays"
    ]  # fmt: skip
    kinds = [event.kind for event in PrivacyEvent.objects.order_by("pk")]
    assert kinds == ["erasure-asked", "erasure-cancelled"]


def test_the_account_is_erased_on_its_day_and_a_last_message_is_sent(browser: Client, seller: User) -> None:
    browser.post(reverse("account_erase"), {"password": PASSWORD})
    Erasure.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erasing.mail, "mail_finished_erasure", lambda address: mail.outbox.append(address))
        from django.test import TestCase

        with TestCase.captureOnCommitCallbacks(execute=True):
            erasing.erase_due()
    assert not User.objects.filter(pk=seller.pk).exists()
    assert mail.outbox[-1] == seller.email
    assert browser.get(reverse("account")).status_code == 302
    assert not browser.login(username=seller.email, password=PASSWORD)


def test_an_erasure_that_has_begun_is_not_taken_back(seller: User) -> None:
    privacy.request_erasure(user=seller, by=seller, via=Via.PAGE, now=True)
    assert Erasure.objects.claim()
    assert not privacy.cancel_erasure(user=seller, by=seller)


def test_guessing_the_password_is_stopped(browser: Client) -> None:
    codes = [browser.post(reverse("account_erase"), {"password": "no"}).status_code for _ in range(11)]
    assert codes[0] == 422 and codes[-1] == 429


def test_staff_are_sent_to_an_administrator(client: Client, scientist: User) -> None:
    client.force_login(scientist)
    client.post(reverse("account_erase"), {"password": PASSWORD})
    assert not Erasure.objects.exists()


def test_strangers_and_gets_change_nothing(client: Client, browser: Client) -> None:
    confirm_password(browser)
    assert browser.get(reverse("account_erase_cancel")).status_code == 405
    assert browser.get(reverse("export_ask")).url == reverse("account")  # type: ignore[attr-defined]
    assert not Export.objects.exists()
    for name in ("account_erase_cancel", "export_ask"):
        assert Client().post(reverse(name)).status_code == 302
    assert Client().post(reverse("account_erase"), {"password": PASSWORD}).status_code == 302
    assert not Erasure.objects.exists()


# Staff


def test_an_administrator_erases_a_seller_and_a_scientist_may_not(
    client: Client, administrator: User, scientist: User, seller: User
) -> None:
    address = reverse("admin:portal_user_erase", args=[seller.pk])
    client.force_login(scientist)
    assert client.post(address, {"now": ""}).status_code in (302, 403)
    assert not Erasure.objects.exists()
    client.force_login(administrator)
    confirm_password(client)
    assert client.get(reverse("admin:portal_user_delete", args=[seller.pk])).status_code == 403
    assert seller.email in client.get(address).content.decode()
    client.post(address, {"later": ""})
    assert Erasure.objects.get().due_at > timezone.now()
    assert "Keep the account" in client.get(address).content.decode()
    client.post(address, {"keep": ""})
    assert Erasure.objects.get().state == Erasure.State.CANCELLED
    client.post(address, {"now": ""})
    erasing.erase_due()
    assert not User.objects.filter(pk=seller.pk).exists()
    done = PrivacyEvent.objects.get(kind=PrivacyEvent.Kind.ERASURE_DONE)
    assert (done.account, done.actor) == (seller.pk, administrator.pk)
    for name in ("feedback_erasure", "portal_privacyevent"):
        for query in ("", f"?q={seller.pk}", "?q=x", "?q=99999999999999999999"):
            assert client.get(reverse(f"admin:{name}_changelist") + query).status_code == 200
        assert client.get(reverse(f"admin:{name}_add")).status_code == 403
    assert str(seller.pk) in client.get(reverse("admin:feedback_erasure_changelist")).content.decode()
    assert client.get(reverse("admin:feedback_erasure_change", args=[Erasure.objects.first().pk])).status_code == 200  # type: ignore[union-attr]
    client.force_login(scientist)
    assert client.get(reverse("admin:portal_privacyevent_changelist")).status_code == 403


def test_the_command_erases_and_refuses_the_last_administrator(administrator: User, seller: User) -> None:
    out = io.StringIO()
    call_command("erase_account", seller.email.upper(), yes=True, stdout=out)
    erasing.erase_due()
    assert not User.objects.filter(pk=seller.pk).exists() and str(Erasure.objects.get().pk) in out.getvalue()
    with pytest.raises(CommandError, match="no account"):
        call_command("erase_account", seller.email, yes=True)
    with pytest.raises(CommandError, match="last administrator"):
        call_command("erase_account", administrator.email, yes=True)
