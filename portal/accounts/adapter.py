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
    """Make everybody who signs up a seller, and word errors and notices as Aisle does."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": _("The e-mail address or the password is wrong."),
        "incorrect_code": _("This code is wrong. Check it and type it again."),
        "incorrect_password": _("This password is wrong."),
        "enter_current_password": _("This password is wrong."),
        "too_many_login_attempts": _("Too many failed log-ins. Wait a few minutes, then try again."),
        "rate_limited": _("That was a lot at once. Wait a few minutes, then try again."),
        "email_taken": _("An account has this e-mail address already."),
        "duplicate_email": _("Your account has this e-mail address already."),
    }

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        user = super().save_user(request, user, form, commit)
        if commit:
            Role.SELLER.give(user)
        return user

    def send_notification_mail(
        self, template_prefix: str, user: User, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        """Tell all confirmed addresses, not the primary one alone: that may be a thief's by now."""
        notices.notify(self.request, user, template_prefix)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return [{**method, "description": WAYS.get(method["id"], method["description"])} for method in methods]
