"""Template filters and tags for probabilities, icons, form widgets and dates."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.conf import settings
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.core.paginator import Page
from django.forms import BoundField
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from common.formatting import format_probability
from portal.models import Product
from portal.products.confidence import Confidence
from portal.products.confidence import confidence as portal_confidence
from portal.products.list_place import list_url, with_list
from portal.products.photos import MOST_PHOTOS
from portal.products.undo import undo_moment
from portal.templatetags.icons import ICONS

register = template.Library()
register.filter(undo_moment)

STATE_TONES = {
    Product.State.WAITING: "info",
    Product.State.FAILED: "danger",
    Product.State.NEEDS_ANSWER: "warning",
    Product.State.CATEGORISED: "success",
    Product.State.NO_CATEGORY: "neutral",
}


@register.simple_tag
def icon(name: str, size: int = 20) -> SafeString:
    """Return an inline SVG that screen readers skip, because text stands beside it."""
    return format_html(
        '<svg class="icon" viewBox="0 0 24 24" width="{0}" height="{0}" aria-hidden="true" focusable="false">{1}</svg>',
        size,
        ICONS[name],
    )


@register.filter
def percent(probability: float) -> str:
    """Return "82%", and neither "0%" nor "100%": a model is never certain."""
    return format_probability(probability)


@register.filter
def permille(probability: float) -> int:
    """Return a whole number for a bar of 1000, free of any locale's decimal comma."""
    return round(probability * 1000)


@register.filter
def confidence(probability: float) -> Confidence:
    """Return the confidence of a probability: `.value` names a colour, `.label` is the text."""
    return portal_confidence(probability)


@register.filter
def tone(state: str) -> str:
    """Return the colour in which a product's state is shown."""
    return STATE_TONES[Product.State(state)]


@register.filter
def message_tone(level_tag: str) -> str:
    return {"error": "danger", "debug": "info"}.get(level_tag, level_tag)


@register.filter
def when(moment: datetime) -> str:
    """Return "just now", "3 minutes ago" within a day, and a date after that."""
    age = timezone.now() - moment
    if age < timedelta(minutes=1):
        return _("just now")
    if age < timedelta(days=1):
        return str(naturaltime(moment))
    return date_format(moment, "j M Y")


@register.filter
def days_left(product: Product) -> str:
    """Return how long a product stays in the trash, or an empty string where it stays until its seller deletes it."""
    if product.expires_at is None:
        return ""
    days = max(math.ceil((product.expires_at - timezone.now()) / timedelta(days=1)), 0)
    return ngettext("%(days)d day left", "%(days)d days left", days) % {"days": days}


@register.simple_tag
def widget(field: BoundField, **attrs: Any) -> SafeString:
    """Return the field's control without a placeholder that only repeats its label."""
    names = {name.replace("_", "-"): value for name, value in attrs.items() if value != ""}
    return field.as_widget(attrs={"placeholder": False, **names})


@register.filter
def is_checkbox(field: BoundField) -> bool:
    return field.widget_type == "checkbox"


@register.simple_tag(takes_context=True)
def product_link(context: template.Context, name: str, *args: Any) -> str:
    """Return the address of a product's page, from which the way back leads to the list page in the context."""
    return with_list(reverse(name, args=args), str(context.get("list_query", "")))


@register.simple_tag(takes_context=True)
def back_to_list(context: template.Context) -> str:
    """Return the address of My products with the filter and the page that the seller left."""
    return list_url(str(context.get("list_query", "")))


@register.simple_tag
def page_numbers(page: Page[Any]) -> Iterator[str | int]:
    return page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1)


@register.simple_tag
def upload_limit() -> dict[str, int]:
    return {
        "bytes": settings.UPLOAD_LIMIT_BYTES,
        "megabytes": settings.UPLOAD_LIMIT_BYTES // 1_000_000,
        "request_bytes": settings.UPLOAD_REQUEST_LIMIT_BYTES,
        "request_megabytes": settings.UPLOAD_REQUEST_LIMIT_BYTES // 1_000_000,
        "photos": MOST_PHOTOS,
    }


@register.simple_tag
def mail_goes_to() -> str:
    """Return "terminal" or "folder" where this installation has no mail server, else an empty string."""
    backend = settings.EMAIL_BACKEND.rsplit(".", 2)[-2]
    return {"console": "terminal", "filebased": "folder"}.get(backend, "")


@register.simple_tag
def mail_folder() -> str:
    return str(getattr(settings, "EMAIL_FILE_PATH", None) or "")


@register.simple_tag
def waiting_rows(page: Page[Product]) -> str:
    """Return the rows that htmx fetches again while they wait, as hx-select-oob wants them."""
    waiting = (product for product in page if product.state == Product.State.WAITING)
    return ",".join(f"#product-{product.pk}" for product in waiting)
