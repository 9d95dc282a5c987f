"""Limit the rate of requests and uploads."""

from typing import Any, cast

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle


class UserThrottle(SimpleRateThrottle):
    """A limit per user, or per IP address for clients that are not logged in."""

    scope = "user"

    def get_cache_key(self, request: Any, view: Any) -> str:
        who = request.user.pk if request.user.is_authenticated else self.get_ident(request)
        return f"throttle:{self.scope}:{who}"


class UploadThrottle(UserThrottle):
    """One limit per seller for uploads, shared by the pages and the API."""

    scope = "upload"

    def allow_request(self, request: HttpRequest | Any, view: Any) -> bool:
        return request.method not in ("POST", "PATCH") or super().allow_request(cast(Request, request), view)
