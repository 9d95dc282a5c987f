"""Extend allauth's forms for a new password by a box that also revokes the account's API tokens."""

from typing import Any

from allauth.account import forms as allauth
from allauth.core import context
from django import forms
from django.contrib import messages
from django.db import transaction
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from knox.models import AuthToken

from portal.models import User

MISSING = {
    "oldpassword": _("Enter your current password."),
    "password1": _("Choose a new password."),
    "password2": _("Repeat the new password."),
}


class RevokesTokens:
    """A form for a new password with a box to revoke all API tokens, shown when there are any.

    It is ticked where a password is reset, because the old one may have been stolen. It isn't where a known password is
    changed, which people also do routinely and which should not stop working programs unexpectedly.
    """

    revoke_by_default = False
    user: User
    fields: dict[str, forms.Field]
    cleaned_data: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, words in MISSING.items():
            if name in self.fields:
                self.fields[name].error_messages["required"] = words
        count = AuthToken.objects.filter(user=self.user).count()
        if count:
            label = ngettext("Also revoke my %d API token", "Also revoke my %d API tokens", count) % count
            self.fields["revoke_tokens"] = forms.BooleanField(
                label=label,
                required=False,
                initial=self.revoke_by_default,
                help_text=_("Programs that use them stop working. Do this if someone else may have used your account."),
            )

    def save(self) -> None:
        with transaction.atomic():
            super().save()  # type: ignore[misc]
            if not self.cleaned_data.get("revoke_tokens"):
                return
            count, _rows = AuthToken.objects.filter(user=self.user).delete()
        words = ngettext("%d API token is revoked.", "%d API tokens are revoked.", count) % count
        messages.success(context.request, words)


class ChangePasswordForm(RevokesTokens, allauth.ChangePasswordForm):
    pass


class SetPasswordForm(RevokesTokens, allauth.SetPasswordForm):
    revoke_by_default = True


class ResetPasswordKeyForm(RevokesTokens, allauth.ResetPasswordKeyForm):
    revoke_by_default = True
