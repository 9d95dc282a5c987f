from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from portal.models import User
from portal.roles import Role


class AccountAdapter(DefaultAccountAdapter):
    """Whoever signs up is a seller."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        user = super().save_user(request, user, form, commit)
        if commit:
            Role.SELLER.give(user)
        return user
