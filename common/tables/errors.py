"""Errors of reading product files."""


class SourceError(Exception):
    """A file that can't be read at all; the message says why and what to do."""


class RowError(Exception):
    """A row that is skipped. `reason` is for counting, the message for the person who corrects the file."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason
