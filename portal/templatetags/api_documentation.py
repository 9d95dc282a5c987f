"""Template filters of the API's documentation."""

import re

from django import template
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()
CODE = re.compile(r"`([^`]+)`")


@register.filter
def inline_code(text: str) -> SafeString:
    """Return the text as HTML, with what stands between backticks as code."""
    escaped = conditional_escape(text)
    return mark_safe(CODE.sub(r"<code>\1</code>", escaped))  # noqa: S308 - the text is escaped
