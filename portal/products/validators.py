"""What a product's text may be: one set of rules for the pages' forms and the API's serializers."""

import unicodedata

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

TITLE_LENGTH = 300
DESCRIPTION_LENGTH = 5000
SKU_LENGTH = 64
WISH_LENGTH = 200
# Embeddings, overrides and isolates can make a page show a text in another order than its neighbours.
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def title(value: str) -> str:
    return _no_longer_than(TITLE_LENGTH, one_line(value), _("title"))


def description(value: str) -> str:
    return _no_longer_than(DESCRIPTION_LENGTH, many_lines(value), _("description"))


def sku(value: str) -> str:
    return _no_longer_than(SKU_LENGTH, one_line(value), _("SKU"))


def wish(value: str) -> str:
    return _no_longer_than(WISH_LENGTH, one_line(value), _("category you wish for"))


def needs_title_or_photo(*, title: str, has_photo: bool) -> None:
    if not title and not has_photo:
        raise ValidationError(
            _("Add a photo or a title, or better both: there is nothing to go by."), code="nothing_given"
        )


def one_line(value: str) -> str:
    return " ".join(_without_controls(value).split())


def many_lines(value: str) -> str:
    lines = value.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(_without_controls(line).rstrip() for line in lines).strip()


def _without_controls(value: str) -> str:
    text = "".join(
        " " if unicodedata.category(character) == "Cc" else character
        for character in value
        if character not in BIDI_CONTROLS and unicodedata.category(character) != "Cs"
    )
    return unicodedata.normalize("NFC", text)


def _no_longer_than(limit: int, value: str, name: str) -> str:
    if len(value) > limit:
        raise ValidationError(
            _("This %(name)s has %(length)s characters; the limit is %(limit)s. Shorten it, please.")
            % {"name": name, "length": f"{len(value):,}", "limit": f"{limit:,}"},
            code="max_length",
        )
    return value
