"""Write tables that people open in a spreadsheet."""

from common.text import clean_line

LONGEST_CELL = 200


def safe_cell(text: str, *, limit: int = LONGEST_CELL) -> str:
    """Return a text as one line, quoted where a spreadsheet would run it as a formula."""
    text = clean_line(text, limit=limit)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
