"""Require two-factor log-in of staff, and relax the content security policy where the admin needs it."""

from collections.abc import Callable

from allauth.mfa.utils import is_mfa_enabled
from csp.constants import UNSAFE_EVAL, UNSAFE_INLINE
from csp.decorators import csp_update
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _


class StaffNeedTwoFactors:
    """Redirect staff without a second factor to its set-up page before they may open the admin."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if (
            settings.STAFF_MFA_REQUIRED
            and request.path.startswith(reverse("admin:index"))
            and request.user.is_authenticated
            and request.user.is_staff
            and not is_mfa_enabled(request.user)
        ):
            messages.info(request, _("Staff need two-factor log-in. Set it up to open the admin."))
            return redirect("mfa_activate_totp")
        return self.get_response(request)


class AdminContentPolicy:
    """Relax the content security policy for the scripts of the admin and of the API's console only."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith(reverse("admin:index")):
            # Unfold's Alpine.js evaluates its attributes and sets styles.
            _loosen(response, {"script-src": [UNSAFE_EVAL, UNSAFE_INLINE], "style-src": [UNSAFE_INLINE]})
        elif request.path.startswith(reverse("api_console")):
            _loosen(response, {"style-src": [UNSAFE_INLINE]})
        return response


def _loosen(response: HttpResponse, policy: dict[str, list[str]]) -> None:
    csp_update(policy)(lambda _request: response)(HttpRequest())
