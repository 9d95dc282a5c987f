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
    num_requests: int  # in `duration` seconds
    duration: int

    def allow_request(self, request: HttpRequest | Any, view: Any) -> bool:
        return request.method not in ("POST", "PATCH") or super().allow_request(cast(Request, request), view)

    def count_photos(self, request: HttpRequest | Any, photos: int) -> None:
        """Count each photo of an allowed request as an upload: with several, the next request may have to wait."""
        if photos > 1 and self.rate is not None:
            key = self.get_cache_key(request, None)
            uploads = [self.timer()] * (photos - 1) + self.cache.get(key, [])
            self.cache.set(key, uploads[: self.num_requests], self.duration)
