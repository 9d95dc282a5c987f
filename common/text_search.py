"""Search texts by the beginnings and stems of their words, with accents and case folded.

PostgreSQL's functions `aisle_fold` and `aisle_lexemes`, which a migration of classifier creates, turn stored texts into
lexemes; this module turns what somebody typed into queries over them. The extensions unaccent and pg_trgm are not used:
the embedded server lacks them.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.postgres.search import SearchVectorField
from django.db.models import BooleanField, F, Func, Value

from common.sql import fetch_rows, load_query
from common.text import clean_line

MOST_WORDS, LONGEST_WORD = 8, 64
LONGEST_QUERY = 200  # characters
QUERY_WORDS = load_query(__file__, "query_words")


@dataclass(frozen=True, slots=True)
class QueryWord:
    """A word that somebody typed, folded, and its stems in the languages that PostgreSQL can stem."""

    word: str
    stems: Sequence[str]

    def alternatives(self, *, mark: str = "", others: Iterable[str] = ()) -> str:
        """Return a query for texts with a word that begins with this one, or has one of its stems, or another lexeme.

        `mark` is what the texts put before these lexemes to tell them from others.
        """
        lexemes = [quote_lexeme(mark + self.word[:LONGEST_WORD]) + ":*"]
        lexemes += [quote_lexeme(mark + stem) for stem in self.stems]
        lexemes += map(quote_lexeme, others)
        return f"({' | '.join(lexemes)})"


def clean_query(text: str) -> str:
    """Return what was typed as stored texts are cleaned, cut to LONGEST_QUERY characters."""
    return clean_line(text, limit=LONGEST_QUERY)


def query_words(text: str) -> list[QueryWord]:
    """Return the first words of a text in their order, each once; none for a text of punctuation."""
    # In stored texts an ampersand stands for "and"; who types one need not find it.
    parameters = {"text": clean_query(text).replace("&", " "), "limit": MOST_WORDS}
    return fetch_rows(QUERY_WORDS, parameters, QueryWord)


def folded_words(text: str) -> list[str]:
    """Return the words of a text without case and accents, nearly as PostgreSQL's `aisle_fold` folds them."""
    letters = unicodedata.normalize("NFKD", text.lower())
    return re.findall(r"[^\W_]+", "".join(letter for letter in letters if not unicodedata.combining(letter)))


def match_all(words: Iterable[QueryWord], *, mark: str = "") -> str:
    """Return a query for texts that have each of the words."""
    return " & ".join(word.alternatives(mark=mark) for word in words)


def quote_lexeme(lexeme: str) -> str:
    """Return a lexeme as PostgreSQL reads it in the text of a query."""
    escaped = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def lexemes_of(field: str) -> Func:
    """Return the expression for the lexemes of a short text, whose words are stemmed as English ones."""
    return Func(F(field), Value("en"), function="aisle_lexemes", output_field=SearchVectorField())


def matches(vector: Any, query: str) -> Func:
    """Return the condition for a column of lexemes to match a query."""
    return Func(
        vector, Value(query), template="(%(expressions)s::tsquery)", arg_joiner=" @@ ", output_field=BooleanField()
    )
