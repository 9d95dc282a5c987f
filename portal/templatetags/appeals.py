"""The note about answers that are being checked, for the pages where a seller sees it."""

from typing import Any

from django import template

from portal.accounts.appeals import case_to_tell
from portal.models import User

register = template.Library()


@register.inclusion_tag("account/_answers_note.html")
def answers_note(user: User) -> dict[str, Any]:
    return {"case": case_to_tell(user)}
