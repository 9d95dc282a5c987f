"""Report errors outside the views (a malformed body, no database) in the format of all API errors."""

import logging
from collections.abc import Mapping
from typing import Any, cast

from django.core.exceptions import (
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
    ValidationError,
)
from django.db import InterfaceError, OperationalError
from django.http import UnreadablePostError
from django.utils.translation import gettext_lazy as _
from drf_standardized_errors.handler import ExceptionHandler as BaseExceptionHandler
from rest_framework import exceptions, status
from rest_framework.authentication import get_authorization_header
from rest_framework.fields import get_error_detail
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings

from portal.products.photos import PhotoError
from portal.products.services import QueueFull

WHAT_TO_SEND: Mapping[str, Any] = {
    "application/json": _("Send JSON, with the header Content-Type: application/json."),
    "multipart/form-data": _("Send a form as multipart/form-data, as curl does with -F title=Lamp -F image=@lamp.jpg."),
}

log = logging.getLogger(__name__)


RETRY_PHOTO_SECONDS = 60  # the messages say "in a minute"


class TooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "request_too_large"
    default_detail = _("This request is too large: its fields may have 1 MB in all, in addition to the photo.")


class DatabaseDown(exceptions.APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "database_down"
    default_detail = _("Aisle can't reach its database at the moment. Please try again in a few seconds.")
    wait = 5  # becomes Retry-After


class RefusedPhoto(exceptions.APIException):
    """A PhotoError as an API error, with Retry-After where trying again may succeed."""

    def __init__(self, error: PhotoError) -> None:
        super().__init__(str(error), code=error.code)
        self.status_code = error.status
        if error.status == status.HTTP_503_SERVICE_UNAVAILABLE:
            self.wait = RETRY_PHOTO_SECONDS


class NotYet(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "no_result_yet"


class QueueIsFull(exceptions.APIException):
    """A QueueFull as an API error, with Retry-After."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "queue_full"

    def __init__(self, error: QueueFull) -> None:
        super().__init__(_("Too many products are waiting. Please try again in %d seconds.") % error.seconds)
        self.wait = error.seconds


class ExceptionHandler(BaseExceptionHandler):
    """Turn Django's errors about a request into client errors, and a lost database into a 503."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, RequestDataTooBig):
            return TooLarge()
        if isinstance(exc, TooManyFieldsSent):
            return exceptions.ParseError(_("This request has too many fields."), "too_many_fields")
        if isinstance(exc, TooManyFilesSent):
            return exceptions.ParseError(
                _("This request has too many files: a product has at most 10 photos."), "too_many_files"
            )
        if isinstance(exc, SuspiciousOperation | UnreadablePostError):
            return exceptions.ParseError()
        if isinstance(exc, ValidationError):  # of a service
            return exceptions.ValidationError({api_settings.NON_FIELD_ERRORS_KEY: get_error_detail(exc)})
        if isinstance(exc, OperationalError | InterfaceError):
            log.error("The database does not answer: %s", exc)
            return DatabaseDown()
        converted = super().convert_known_exceptions(exc)
        advice = self._what_to_send(converted)
        if advice and isinstance(converted, exceptions.APIException):
            converted.detail = exceptions.ErrorDetail(advice, converted.default_code)
        return converted

    def _what_to_send(self, exc: Exception) -> str:
        """Return the detail of an error about the request's form, which says what to send instead."""
        view = self.context["view"]
        if isinstance(exc, exceptions.NotAuthenticated):
            return self._authorization_to_send()
        if isinstance(exc, exceptions.UnsupportedMediaType):
            media_types = [str(WHAT_TO_SEND[parser.media_type]) for parser in view.get_parsers()]
            return f"{exc.detail} {' '.join(media_types)}"
        if isinstance(exc, exceptions.MethodNotAllowed):
            methods = ", ".join(view.allowed_methods)
            return str(_("%(detail)s Allowed here: %(methods)s.") % {"detail": exc.detail, "methods": methods})
        if isinstance(exc, exceptions.NotAcceptable):
            return str(_("The API answers in JSON. Send the header Accept: application/json."))
        return ""

    def _authorization_to_send(self) -> str:
        """Return a sentence with the header to send, also where a token came in another one."""
        request = cast(Request, self.context["request"])
        scheme, _space, rest = get_authorization_header(request).decode("latin-1").strip().partition(" ")
        if not scheme:
            words = _("Send a token with each request: Authorization: Bearer TOKEN. Create one on the account page.")
        elif rest:
            words = _("The scheme of the header Authorization is “%(scheme)s”. Send: Authorization: Bearer TOKEN.")
        else:
            words = _("The header Authorization has one word only. Send: Authorization: Bearer TOKEN.")
        return str(words % {"scheme": scheme[:20]})

    def report_exception(self, exc: exceptions.APIException, response: Response) -> None:
        """Report nothing for a 503: it asks the client to try again, so no one needs to be alerted."""
        if exc.status_code != status.HTTP_503_SERVICE_UNAVAILABLE:
            super().report_exception(exc, response)
