"""Find products by words in title, SKU and description, and by the names of their categories.

Each product has its lexemes in one column with one index (see migration 0016): its words and their stems, those of
title and SKU a second time marked with "=", the whole SKU marked with "~", and the id of its category marked with "#".
A category is found by its present names: its id is searched for, not a copy of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from django.db.models import BooleanField, Case, F, FloatField, Func, IntegerField, Q, QuerySet, Value, When

from common.sql import fetch_rows, load_query
from common.text_search import clean_query, matches, query_words, quote_lexeme

IN_TITLE_OR_SKU, WHOLE_SKU, CATEGORY = "=", "~", "#"
# For lexemes without a weight (the category's), of the description, of the SKU, of the title.
WEIGHTS = "{0.4, 0.1, 0.6, 1.0}"
QUERY_TARGETS = load_query(__file__, "query_targets")
MOST_CATEGORIES = 200  # that one word looks for


@dataclass(frozen=True, slots=True)
class _Target:
    sku: str
    categories: Sequence[int]


@dataclass(frozen=True, slots=True)
class ProductQuery:
    """What was searched for, as queries over the lexemes of products: each matches all that the one before it does."""

    whole_sku: str  # the text is the SKU
    in_title: str  # or each word is in title or SKU
    in_title_or_category: str  # or in the name of the category
    anywhere: str  # or in the description
    any_word: str  # of those that are sought anywhere, to rank by

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the queries for a text that somebody typed."""
        text = clean_query(text)
        words = query_words(text)
        parameters = {"text": text, "queries": [word.alternatives() for word in words], "limit": MOST_CATEGORIES}
        targets = fetch_rows(QUERY_TARGETS, parameters, _Target)
        whole_sku = quote_lexeme(WHOLE_SKU + targets[0].sku)
        if not words:
            return cls(*[whole_sku] * 5)
        categories = [[f"{CATEGORY}{pk}" for pk in target.categories] for target in targets]
        pairs = list(zip(words, categories, strict=True))
        in_title = [word.alternatives(mark=IN_TITLE_OR_SKU) for word in words]
        in_category = [word.alternatives(mark=IN_TITLE_OR_SKU, others=others) for word, others in pairs]
        anywhere = [word.alternatives(others=others) for word, others in pairs]
        # A whole word counts more than the beginning of one.
        any_word = " | ".join([*anywhere, *(quote_lexeme(word.word) for word in words)])
        return cls(
            whole_sku,
            f"{whole_sku} | {_all(in_title)}",
            f"{whole_sku} | {_all(in_category)}",
            f"{whole_sku} | {_all(anywhere)}",
            any_word,
        )


def found_by(query: str) -> Q:
    """Return the condition for products whose lexemes match a query."""
    cost = Func(F("lexemes"), function="aisle_match_cost", output_field=BooleanField())
    return Q(matches(F("lexemes"), query)) & Q(cost)


def best_matches(products: QuerySet[Any], text: str, *, limit: int) -> list[UUID]:
    """Return the ids of the products that match a text best, at most `limit`.

    The SKU itself comes first, then products with all words in title or SKU, with the category's name, and with the
    description; within these by PostgreSQL's rank, then the newest first. Where more than `limit` products match in one
    of these ways, the newest `limit` of them are ranked: the time is bounded however many match.
    """
    query = ProductQuery.of(text)
    newest = products.order_by("-created_at", "pk").values_list("pk", flat=True)
    found = set(newest.filter(found_by(query.anywhere))[:limit])
    if len(found) == limit:  # better ones may be older
        for better in (query.whole_sku, query.in_title, query.in_title_or_category):
            more = newest.filter(found_by(better))[:limit]
            found.update(more)
            if len(more) == limit:
                break
    return _ranked(products.model._default_manager.filter(pk__in=found), query, limit)


def _ranked(products: Any, query: ProductQuery, limit: int) -> list[UUID]:
    places = (query.whole_sku, query.in_title, query.in_title_or_category)
    place = Case(
        *(When(matches(F("lexemes"), better), then=Value(number)) for number, better in enumerate(places)),
        default=Value(len(places)),
        output_field=IntegerField(),
    )
    rank = Func(
        Value(WEIGHTS),
        F("lexemes"),
        Value(query.any_word),
        function="ts_rank",
        template="%(function)s(%(expressions)s::tsquery)",
        output_field=FloatField(),
    )
    return list(products.order_by(place, rank.desc(), "-created_at", "pk").values_list("pk", flat=True)[:limit])


def _all(alternatives: Sequence[str]) -> str:
    return f"({' & '.join(alternatives)})"
