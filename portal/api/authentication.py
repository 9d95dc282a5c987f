"""Authenticate API requests by token."""

from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _
from knox.auth import TokenAuthentication as KnoxAuthentication
from knox.models import AuthToken
from rest_framework.authentication import get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from portal.accounts import tokens


class TokenExpired(AuthenticationFailed):
    default_code = "token_expired"


INVALID = _(
    "This token isn't valid: it was revoked or is incomplete. Send Authorization: Bearer TOKEN "
    "with a token from the account page."
)


class TokenAuthentication(KnoxAuthentication):
    """Authentication by `Authorization: Bearer TOKEN` whose errors say what to send."""

    def authenticate(self, request: Request) -> Any:
        scheme, *rest = get_authorization_header(request).split() or [b""]
        if scheme.lower() != b"bearer":
            return None  # a session may authenticate the request; else the exception handler names the scheme
        if len(rest) != 1:
            raise AuthenticationFailed(_("Send one token without spaces: Authorization: Bearer TOKEN."))
        return self.authenticate_credentials(rest[0])

    def authenticate_credentials(self, token: bytes) -> Any:
        if not token.isascii():  # knox decodes it as UTF-8, which other bytes would break
            raise AuthenticationFailed(INVALID)
        try:
            user, auth_token = super().authenticate_credentials(token)
        except TokenExpired:
            raise
        except AuthenticationFailed as error:
            raise AuthenticationFailed(INVALID) from error
        tokens.note_use(auth_token)
        return user, auth_token

    def _cleanup_token(self, auth_token: AuthToken) -> bool:
        """Report an expired token instead of deleting it, so that its owner learns why the program stopped."""
        if auth_token.expiry and auth_token.expiry <= timezone.now():
            words = _("This token expired on %(day)s. Create another one on the account page.")
            raise TokenExpired(words % {"day": date_format(auth_token.expiry, "j F Y")})
        return False
