"""Require the password or a second factor again before pages that could hand over an account or its data.

Every account page requires it except those named here, so a new page is protected until someone exempts it with a
reason.
"""

from collections.abc import Callable
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows import reauthentication
from allauth.account.signals import authentication_step_completed
from django.contrib import messages
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import ResolverMatch, reverse
from django.utils.cache import add_never_cache_headers
from django.utils.http import urlencode
from django.utils.translation import gettext as _

ACCOUNT_PAGES = ("account/", "accounts/")
# Pages that only show or protect something: logging in, resetting a password, lists, revoking a token, keeping the
# account. The code that confirms a new address ends a process that began with the password.
OPEN = frozenset(
    {
        "account",
        "account_confirm_login_code",
        "account_email_verification_sent",
        "account_erase_cancel",
        "account_inactive",
        "account_login",
        "account_logout",
        "account_reauthenticate",
        "account_reset_password",
        "account_reset_password_done",
        "account_reset_password_from_key",
        "account_reset_password_from_key_done",
        "account_signup",
        "appeal",
        "export_state",
        "mfa_authenticate",
        "mfa_index",
        "mfa_reauthenticate",
        "token_revoke",
    }
)
# Their own form requires the password each time. They are exempt also because an interrupted POST is stored in the
# session until it is resumed, and a password must not be stored there.
ASK_THEMSELVES = frozenset({"account_change_password", "account_erase"})
# Their forms hold a new password. For the same reason the POST is not stored: the empty form is shown again.
NOT_KEPT = frozenset({"account_set_password", "auth_user_password_change", "portal_user_add"})
# The admin's pages on people, their rights and their addresses.
ADMIN_PAGES = ("account_", "auth_", "mfa_", "knox_", "portal_user_", "sessions_")
ADMIN_LISTS = ("_changelist", "_history")
# A download doesn't replace the page that asks for the password, so that page leads to the one with the button.
AFTER = {"export_fetch": "account", "mfa_download_recovery_codes": "mfa_view_recovery_codes"}


class ReauthenticationMiddleware:
    """Redirect to the page that asks for the password, unless that happened within REAUTHENTICATION_TIMEOUT.

    allauth stores an interrupted POST in the session and resumes it after the password was given.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.resolver_match and request.resolver_match.route.startswith(ACCOUNT_PAGES):
            add_never_cache_headers(response)  # no browser may cache secrets or recovery codes
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        match = request.resolver_match
        if match is None or not request.user.is_authenticated or not is_guarded(match, request.method or ""):
            return None
        methods = get_adapter().get_reauthentication_methods(request.user)
        if not methods:
            messages.info(
                request,
                _("Your account has no password yet. Set one with the link that we e-mail to you, then come back."),
            )
            return redirect("account_reset_password")
        if reauthentication.did_recently_reauthenticate(request):
            return None
        name, ask = match.url_name or "", methods[0]["url"]
        if name in AFTER:
            messages.info(request, _("Confirm that it’s you first, then choose “Download” again."))
            return _ask(ask, reverse(AFTER[name]))
        if name in NOT_KEPT:
            return _ask(ask, request.get_full_path())
        return reauthentication.suspend_request(request, ask)  # type: ignore[no-any-return]


def _ask(page: str, after: str) -> HttpResponse:
    return redirect(f"{page}?{urlencode({'next': after})}")


@receiver(authentication_step_completed)
def renew_session_id(request: HttpRequest, reauthenticated: bool = False, **_: Any) -> None:
    """Give the session a new id, so that a stolen copy of the cookie doesn't share the fresh authentication."""
    if reauthenticated:
        request.session.cycle_key()


def is_guarded(match: ResolverMatch, method: str) -> bool:
    """Return whether a request to this address requires a recent authentication."""
    name = match.url_name or ""
    if match.route.startswith(ACCOUNT_PAGES):
        return name not in OPEN | ASK_THEMSELVES
    if match.namespaces == ["admin"] and name.startswith(ADMIN_PAGES):
        return not (name.endswith(ADMIN_LISTS) and method in ("GET", "HEAD"))
    return False
