"""Format shares in the templates of staff pages."""

from django import template

from common.formatting import MISSING, format_percent, format_points

register = template.Library()


@register.filter
def share(value: float | None) -> str:
    """Return "82.3%", or a dash for a value that was not recorded."""
    return format_percent(value, 1) if isinstance(value, int | float) else MISSING


@register.filter
def points(value: float | None) -> str:
    """Return a difference of shares in points with its sign, or a dash."""
    return format_points(value) if isinstance(value, int | float) else MISSING
