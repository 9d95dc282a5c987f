"""Reject what a client sent in error: unknown names, names given twice, and text in another encoding than UTF-8."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.views import APIView

REPLACEMENT = "\ufffd"  # what a decoder leaves where the bytes are not UTF-8
LONGEST_QUOTE = 100
FORM_TOKEN = "csrfmiddlewaretoken"  # noqa: S105 - a field of browsers' forms, which Django itself reads

Errors = dict[str, list[ErrorDetail]]


@dataclass(frozen=True)
class Wording:
    """The codes and sentences for one kind of names."""

    unknown_code: str
    unknown: Any
    repeated_code: str
    repeated: Any


FIELDS = Wording(
    "unknown_field",
    gettext_lazy("There is no field “%(name)s” here."),
    "repeated_field",
    gettext_lazy("This field was sent more than once."),
)
PARAMETERS = Wording(
    "unknown_parameter",
    gettext_lazy("There is no query parameter “%(name)s” here."),
    "repeated_parameter",
    gettext_lazy("This query parameter was sent more than once."),
)


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer that names every field it doesn't know, and every field that was sent twice or in another encoding.

    Ignoring an unknown field would lose what was meant, for example a photo in a field of another name.
    """

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            lists = [name for name, field in self.fields.items() if isinstance(field, serializers.ListField)]
            errors = _unknown_fields(data, self.fields) | _repeated(data, FIELDS, lists=lists)
            errors |= _not_text(data, self.fields)
            errors |= _badly_encoded({name: value for name, value in data.items() if name in self.fields})
            if errors:
                raise serializers.ValidationError(errors)
        return super().to_internal_value(data)


class KnownParameters(APIView):
    """A view that rejects query parameters which it doesn't know, which are repeated, or which are not UTF-8."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not hasattr(self, (request.method or "").lower()):
            return  # the method is not allowed, which the response will say
        known = self.known_parameters()
        unknown = [name for name in request.query_params if name not in (*known, api_settings.URL_FORMAT_OVERRIDE)]
        errors = {name: [_unknown(name, known, PARAMETERS)] for name in unknown}
        errors |= _repeated(request.query_params, PARAMETERS) | _badly_encoded(request.query_params)
        if errors:
            raise serializers.ValidationError(errors)

    def known_parameters(self) -> list[str]:
        """Return the query parameters of the requested operation."""
        return []


def _unknown_fields(data: Mapping[str, Any], fields: Mapping[str, Any]) -> Errors:
    writable = [name for name, field in fields.items() if not field.read_only]
    files = [name for name in writable if _takes_files(fields[name])]
    errors: Errors = {}
    for name in data:
        if name in writable or name == FORM_TOKEN:
            continue
        if files and isinstance(data[name], UploadedFile):
            words = FIELDS.unknown + " " + _("Send the photo in the field “%(field)s”.")
            detail = words % {"name": name[:LONGEST_QUOTE], "field": files[0]}
            errors[name] = [ErrorDetail(detail, FIELDS.unknown_code)]
        else:
            errors[name] = [_unknown(name, writable, FIELDS)]
    return errors


def _takes_files(field: Any) -> bool:
    return isinstance(getattr(field, "child", field), serializers.FileField)


def _unknown(name: str, known: Sequence[str], wording: Wording) -> ErrorDetail:
    close = get_close_matches(name[:LONGEST_QUOTE], known, n=1)
    words = wording.unknown
    if close:
        words += " " + _("Did you mean “%(close)s”?")
    elif known:
        words += " " + _("Known are: %(known)s.")
    values = {"name": name[:LONGEST_QUOTE], "close": "".join(close), "known": ", ".join(known)}
    return ErrorDetail(words % values, wording.unknown_code)


def _repeated(data: Mapping[str, Any], wording: Wording, lists: Sequence[str] = ()) -> Errors:
    """Return an error for each name, except those of lists, that was sent more than once: a value would be ignored."""
    get_list = getattr(data, "getlist", None)
    if get_list is None:
        return {}
    names = [name for name in data if name not in lists and len(get_list(name)) > 1]
    return {name: [ErrorDetail(str(wording.repeated), wording.repeated_code)] for name in names}


def _not_text(data: Mapping[str, Any], fields: Mapping[str, Any]) -> Errors:
    """Return an error for each number that was sent as a text: 007 and 1e3 would be stored as other characters."""
    words = _("Send a text, in quotes.")
    texts = [name for name, field in fields.items() if type(field) is serializers.CharField]
    names = [name for name in texts if isinstance(data.get(name), int | float)]
    return {name: [ErrorDetail(words, "invalid")] for name in names}


def _badly_encoded(data: Mapping[str, Any]) -> Errors:
    words = _("This contains bytes that are not UTF-8, or the character � (U+FFFD) that stands for them. Send UTF-8.")
    names = [name for name, value in data.items() if isinstance(value, str) and REPLACEMENT in value]
    return {name: [ErrorDetail(words, "not_utf8")] for name in names}
