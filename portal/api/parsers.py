"""Parse request bodies."""

import json
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, parsers
from rest_framework.utils.json import strict_constant


class JSONParser(parsers.JSONParser):
    """A JSON parser for UTF-8 that reports broken, repeated and too deeply nested values as client errors."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            text = stream.read().decode("utf-8-sig")
            return json.loads(text, parse_constant=strict_constant, object_pairs_hook=_distinct)
        except UnicodeDecodeError as error:
            raise exceptions.ParseError(
                _("The body is not UTF-8: byte %(place)d. JSON is always sent in UTF-8.") % {"place": error.start + 1},
                "not_utf8",
            ) from error
        except ValueError as error:
            raise exceptions.ParseError(_("The body is not JSON: %(error)s") % {"error": error}) from error
        except RecursionError as error:
            raise exceptions.ParseError(_("This JSON is nested too deeply.")) from error


class MultiPartParser(parsers.MultiPartParser):
    """A multipart parser that says how a missing boundary comes about: the client set the header itself."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        if "boundary=" not in (media_type or ""):
            raise exceptions.ParseError(
                _(
                    "The header Content-Type has no boundary. Don't set this header yourself: your HTTP library does, "
                    "when you give it the fields and the photo."
                )
            )
        return super().parse(stream, media_type, parser_context)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict. Raises ValidationError for a name that occurs twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        words = _("This field was sent more than once.")
        raise exceptions.ValidationError({twice: [exceptions.ErrorDetail(str(words), "repeated_field")]})
    return values
