"""Find the category that a seller looks for when no suggestion fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from classifier.models import Category, Prediction
from classifier.taxonomy.search import FoundCategory, find_categories
from common.text_search import clean_query
from feedback.models import Feedback
from portal.models import User

MOST_FOUND = 50
MOST_LISTED = 100  # of all categories, while nothing is searched
MOST_RECENT = 5
ANSWERS_READ = 50  # in which recent categories are looked for


@dataclass(frozen=True, slots=True)
class CategoryPicker:
    """What the picker lists: the categories that a search finds, or recent ones and all while nothing is typed."""

    query: str  # what the seller typed
    searched: str  # what was searched for: a correction where nothing matches what was typed
    rows: Sequence[FoundCategory]
    total: int  # of which `rows` are the first
    recent: Sequence[FoundCategory] = ()

    @classmethod
    def of(cls, prediction: Prediction, *, seller: User, query: str) -> Self:
        """List what a seller may choose for a prediction."""
        query = clean_query(query)
        if not query:
            return cls._of_all(seller)
        found = find_categories(query, limit=MOST_FOUND, probabilities=_probabilities(prediction))
        return cls(query, found.text, found.categories, found.total)

    @classmethod
    def _of_all(cls, seller: User) -> Self:
        categories = Category.objects.active()
        rows = [_row(category) for category in categories[:MOST_LISTED]]
        total = len(rows) if len(rows) < MOST_LISTED else categories.count()
        return cls("", "", rows, total, [_row(category) for category in _recent_categories(seller)])

    @property
    def is_corrected(self) -> bool:
        return bool(self.rows) and self.searched != self.query

    @property
    def wish(self) -> str:
        """Return what the seller may ask for: what was typed, where no category matches it."""
        return "" if self.rows else self.query


def _recent_categories(seller: User) -> list[Category]:
    """Return the active categories that the seller chose last, the latest one first."""
    answers = Feedback.objects.filter(seller=seller).order_by("-answered_at")
    chosen = answers.values_list("category", flat=True)[:ANSWERS_READ]
    latest = list(dict.fromkeys(pk for pk in chosen if pk is not None))
    offered = Category.objects.active().in_bulk(latest)
    return [offered[pk] for pk in latest if pk in offered][:MOST_RECENT]


def _probabilities(prediction: Prediction) -> dict[str, float]:
    """Return the product's probabilities by slug; those of the suggestions where the others were archived."""
    return prediction.probabilities or {row["slug"]: row["probability"] for row in prediction.top5 or []}


def _row(category: Category) -> FoundCategory:
    return FoundCategory(category.slug, category.name, None)
