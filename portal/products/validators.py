"""Validate the fields of a product: one set of rules for the pages' forms and the API's serializers.

`common.text` cleans them; what is then still too long is refused, so that a seller never loses words unnoticed.
"""

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from common.text import (
    DESCRIPTION_LIMIT,
    REQUESTED_CATEGORY_LIMIT,
    SKU_LIMIT,
    TITLE_LIMIT,
    clean_description,
    clean_line,
    clean_title,
)
from portal.products.photos import MOST_PHOTOS


def validate_title(value: str) -> str:
    """Return the cleaned title. Raises ValidationError for one that is too long."""
    return _check_length(clean_title(value, limit=None), TITLE_LIMIT, _("title"))


def validate_description(value: str) -> str:
    """Return the cleaned description. Raises ValidationError for one that is too long."""
    return _check_length(clean_description(value, limit=None), DESCRIPTION_LIMIT, _("description"))


def validate_sku(value: str) -> str:
    """Return the cleaned SKU. Raises ValidationError for one that is too long."""
    return _check_length(clean_line(value), SKU_LIMIT, _("SKU"))


def validate_requested_category(value: str) -> str:
    """Return the cleaned words for a category that is missing. Raises ValidationError for too many of them."""
    return _check_length(clean_line(value), REQUESTED_CATEGORY_LIMIT, _("requested category"))


def validate_photo_count(count: int) -> None:
    """Raise ValidationError for more photos than a product can have."""
    if count > MOST_PHOTOS:
        words = _("A product can have at most %(limit)d photos. Remove some, or add fewer.")
        raise ValidationError(words % {"limit": MOST_PHOTOS}, code="too_many_photos")


def require_title_or_photo(*, title: str, has_photo: bool) -> None:
    """Raise ValidationError for a product without both: the models could only guess."""
    if not title and not has_photo:
        raise ValidationError(_("Add a photo or a title, ideally both."), code="nothing_given")


def _check_length(value: str, limit: int, name: str) -> str:
    if len(value) > limit:
        raise ValidationError(
            _("This %(name)s has %(length)s characters; the limit is %(limit)s. Shorten it, please.")
            % {"name": name, "length": f"{len(value):,}", "limit": f"{limit:,}"},
            code="max_length",
        )
    return value
