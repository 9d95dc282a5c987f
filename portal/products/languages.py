"""Recognise the language of a product's text."""

from feedback.statistics.drift.language import UNKNOWN_LANGUAGE, guess_language


def product_language(title: str, description: str) -> str:
    """Return the likely language as ISO 639-1, or an empty string where it is not recognised."""
    language = guess_language(f"{title} {description}")
    return "" if language == UNKNOWN_LANGUAGE else language
