"""Create API tokens, note their use, and delete those that expired long ago."""

from datetime import timedelta

from django import forms
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from knox.models import AuthToken

from common.text import clean_line
from portal.accounts.models import TokenDetails
from portal.models import User

LIFETIME_CHOICES = {
    "365": _("after a year"),
    "90": _("after 90 days"),
    "30": _("after 30 days"),
    "7": _("after 7 days"),
}
DEFAULT_DAYS = "365"
DEFAULT_NAME = _("API token")
NOTED_EVERY = timedelta(minutes=1)
EXPIRED_KEPT = timedelta(days=30)


class TokenForm(forms.Form):
    """The name of a new token, and when it expires."""

    name = forms.CharField(
        label=_("Name"),
        max_length=60,
        required=False,
        widget=forms.TextInput(attrs={"required": True, "autocomplete": "off"}),
    )
    days = forms.ChoiceField(label=_("Expires"), choices=LIFETIME_CHOICES, required=False)

    def clean_name(self) -> str:
        return clean_line(self.cleaned_data["name"]) or str(DEFAULT_NAME)

    def clean_days(self) -> int:
        return int(self.cleaned_data["days"] or DEFAULT_DAYS)


@transaction.atomic
def create_token(*, user: User, name: str, days: int) -> str:
    """Create a token and return its secret, which is stored as a hash only."""
    token, secret = AuthToken.objects.create(user=user, expiry=timedelta(days=days))
    TokenDetails.objects.create(token=token, name=name)
    return str(secret)


def note_use(token: AuthToken) -> None:
    """Store that the token is used now, at most once a minute: a busy token must not write with every request."""
    now = timezone.now()
    details = TokenDetails.objects.filter(token=token)
    is_due = Q(last_used_at=None) | Q(last_used_at__lte=now - NOTED_EVERY)
    if not details.filter(is_due).update(last_used_at=now) and not details.exists():
        # A token from before tokens had names.
        TokenDetails.objects.bulk_create([TokenDetails(token=token, last_used_at=now)], ignore_conflicts=True)


def delete_expired() -> int:
    """Delete tokens a month after they expired, and return how many; until then the account page shows them."""
    expired = AuthToken.objects.filter(expiry__lte=timezone.now() - EXPIRED_KEPT)
    _total, by_model = expired.delete()
    return int(by_model.get("knox.AuthToken", 0))
