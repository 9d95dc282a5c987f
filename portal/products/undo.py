"""Mark the message about a deletion, so that the page shows an undo button beside it."""

from datetime import datetime

from django.contrib.messages.storage.base import Message

PREFIX = "undo-"


def undo_tag(deleted_at: datetime) -> str:
    """Return the message's extra tag: the moment by which the deleted products are found in the trash."""
    return f"{PREFIX}{deleted_at.isoformat()}"


def undo_moment(message: Message) -> str:
    """Return the moment in a message's extra tag, or an empty string for a message without an undo button."""
    tag = message.extra_tags or ""
    return tag.removeprefix(PREFIX) if tag.startswith(PREFIX) else ""
