"""Adapt allauth: roles of new accounts, wording of errors, notices to every confirmed address."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from portal.accounts import notices
from portal.accounts.roles import Role
from portal.models import User

WAYS = {
    "reauthenticate": _("Use your password instead"),
    "mfa_reauthenticate": _("Use a code instead"),
}


class AccountAdapter(DefaultAccountAdapter):
    """Make everyone who signs up a seller, and use Aisle's own wording for errors and notices."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": _("The e-mail address or the password is wrong."),
        "incorrect_code": _("This code is wrong. Check it and type it again."),
        "incorrect_password": _("This password is wrong."),
        "enter_current_password": _("This password is wrong."),
        "too_many_login_attempts": _("Too many failed log-ins. Wait a few minutes, then try again."),
        "rate_limited": _("That was too much at once. Wait a few minutes, then try again."),
        "email_taken": _("There is already an account with this e-mail address."),
        "duplicate_email": _("Your account already has this e-mail address."),
    }

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        user = super().save_user(request, user, form, commit)
        if commit:
            Role.SELLER.assign_to(user)
        return user

    def send_notification_mail(
        self, template_prefix: str, user: User, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        """Mail all confirmed addresses: an intruder may have replaced the primary one."""
        notices.notify(self.request, user, template_prefix)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return [{**method, "description": WAYS.get(method["id"], method["description"])} for method in methods]
