"""Read `nouns/`: English product nouns with the category in which a shop lists them, a file for each category.

They are the search terms that a new installation starts with, and a part of the lexicon that models learn.
"""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "nouns"


@cache
def product_nouns() -> dict[str, tuple[str, ...]]:
    """Return the nouns of each category, by its slug."""
    return {path.stem: split_names(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.txt"))}


def split_names(text: str) -> tuple[str, ...]:
    """Return the comma-separated names of a text, each once, in their order."""
    names = (name.strip() for name in text.replace("\n", ",").split(","))
    return tuple(dict.fromkeys(name for name in names if name))
