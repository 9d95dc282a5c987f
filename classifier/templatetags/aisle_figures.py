"""Shares as the staff reads them."""

from django import template

register = template.Library()


@register.filter
def share(value: float | None) -> str:
    """Return "82.3 %", or a dash for what was not recorded."""
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else "–"


@register.filter
def points(value: float | None) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{100 * value:+.1f}" if isinstance(value, int | float) else "–"
