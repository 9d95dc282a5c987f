"""Find categories by their names, aliases and search terms."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.db.models import QuerySet

from classifier.models import Category, CategoryAlias, CategorySearchTerm
from classifier.taxonomy.typing_errors import SHORTEST_CORRECTED, closest_word
from common.sql import fetch_rows, load_query
from common.text_search import (
    QueryWord,
    clean_query,
    folded_words,
    lexemes_of,
    match_all,
    matches,
    query_words,
    quote_lexeme,
)

FIND_CATEGORIES = load_query(__file__, "find_categories")


@dataclass(frozen=True, slots=True)
class FoundCategory:
    """A category that a search found."""

    slug: str
    name: str
    found_as: str | None  # the alias or search term, where it is not the name that matches


@dataclass(frozen=True, slots=True)
class FoundCategories:
    """The best categories of a search, and how many there are in all."""

    text: str  # what was searched for: what was typed, or a correction of it
    categories: Sequence[FoundCategory] = ()
    total: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    slug: str
    name: str
    found_as: str | None
    total: int


def find_categories(text: str, *, limit: int, probabilities: Mapping[str, float] | None = None) -> FoundCategories:
    """Return the active categories with a name, alias or search term that has all words of a text.

    A word is found by its beginning or its stem. Exact names come first, then exact aliases and search terms, then what
    begins with the text; categories of one place are ordered by a product's `probabilities` by slug. Where nothing is
    found, words with a typing error are corrected.
    """
    words = query_words(text)
    found = _find(clean_query(text), words, limit, probabilities or {})
    if found.total == 0 and words:
        corrected = " ".join(_corrected(words))
        found = _find(corrected, query_words(corrected), limit, probabilities or {})
    return found


def _find(text: str, words: Sequence[QueryWord], limit: int, probabilities: Mapping[str, float]) -> FoundCategories:
    if not words:
        return FoundCategories(text)
    parameters = {
        "text": text,
        "query": match_all(words),
        "probabilities": json.dumps(probabilities),
        "limit": limit,
    }
    rows = fetch_rows(FIND_CATEGORIES, parameters, _Row)
    categories = [FoundCategory(row.slug, row.name, row.found_as) for row in rows]
    return FoundCategories(text, categories, rows[0].total if rows else 0)


def _corrected(words: Sequence[QueryWord]) -> list[str]:
    """Return the words, each that nothing matches replaced by the closest known word with the same first letter."""
    return [_closest(each.word) if _is_unknown(each) else each.word for each in words]


def _is_unknown(word: QueryWord) -> bool:
    # Counted: for the single row that exists() asks for, the planner reads the table instead of the index.
    return not any(labels.count() for labels in _labels_with(word.alternatives()))


def _closest(word: str) -> str:
    if len(word) < SHORTEST_CORRECTED:
        return word
    labels = chain.from_iterable(_labels_with(quote_lexeme(word[0]) + ":*"))
    known = Counter(each for label in labels for each in folded_words(label) if each[0] == word[0])
    return closest_word(word, known) or word


def _labels_with(query: str) -> tuple[QuerySet[Any, str], ...]:
    """Return the names, the aliases and the search terms that match a query."""
    names, terms = matches(lexemes_of("name"), query), matches(lexemes_of("term"), query)
    return (
        Category.objects.active().filter(names).order_by().values_list("name", flat=True),
        CategoryAlias.objects.filter(names).order_by().values_list("name", flat=True),
        CategorySearchTerm.objects.filter(terms).order_by().values_list("term", flat=True),
    )
