"""A template tag for the note about answers that are being checked."""

from typing import Any

from django import template

from portal.accounts.appeals import appealable_case
from portal.models import User

register = template.Library()


@register.inclusion_tag("account/_answers_note.html")
def answers_note(user: User) -> dict[str, Any]:
    return {"case": appealable_case(user)}
