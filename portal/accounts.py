from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from portal.models import User
from portal.roles import Role


class AccountAdapter(DefaultAccountAdapter):
    """Whoever signs up is a seller; what is wrong is said in Aisle's words."""

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
