"""Report errors outside the views (a malformed body, no database) in the format of all API errors."""

import logging

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation, TooManyFieldsSent, TooManyFilesSent
from django.db import InterfaceError, OperationalError
from django.http import UnreadablePostError
from django.utils.translation import gettext_lazy as _
from drf_standardized_errors.handler import ExceptionHandler as BaseExceptionHandler
from rest_framework import exceptions, status
from rest_framework.response import Response

log = logging.getLogger(__name__)


class TooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "request_too_large"
    default_detail = _("This request is too large: its fields may have 1 MB in all, in addition to the photo.")


class DatabaseDown(exceptions.APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "database_down"
    default_detail = _("Aisle can't reach its database at the moment. Please try again in a few seconds.")
    wait = 5  # becomes Retry-After


class ExceptionHandler(BaseExceptionHandler):
    """Turn Django's errors about a request into client errors, and a lost database into a 503."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, RequestDataTooBig):
            return TooLarge()
        if isinstance(exc, TooManyFieldsSent):
            return exceptions.ParseError(_("This request has too many fields."), "too_many_fields")
        if isinstance(exc, TooManyFilesSent):
            return exceptions.ParseError(_("This request has more than one file."), "too_many_files")
        if isinstance(exc, SuspiciousOperation | UnreadablePostError):
            return exceptions.ParseError()
        if isinstance(exc, OperationalError | InterfaceError):
            log.error("The database does not answer: %s", exc)
            return DatabaseDown()
        return super().convert_known_exceptions(exc)

    def report_exception(self, exc: exceptions.APIException, response: Response) -> None:
        """Report nothing for a 503: it asks the client to try again, so no one needs to be alerted."""
        if exc.status_code != status.HTTP_503_SERVICE_UNAVAILABLE:
            super().report_exception(exc, response)
