"""Look up the products that the panels show as examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.utils.translation import gettext as _

from classifier.admin import photo_tag
from classifier.models import Prediction

MAX_TITLE_LENGTH = 60


@dataclass(frozen=True, slots=True)
class ExampleProduct:
    """A product as a link shows it; `category` is the most probable one."""

    id: UUID
    title: str
    photo: str
    category: str


def load_examples(ids: Sequence[str]) -> dict[str, ExampleProduct]:
    """Return the products of these predictions by id; erased ones are left out."""
    found = {}
    for row in Prediction.objects.filter(pk__in=ids).only("pk", "title", "photo_small", "top5"):
        found[str(row.pk)] = ExampleProduct(
            id=row.pk,
            title=row.title[:MAX_TITLE_LENGTH] or _("without a title"),
            photo=photo_tag(row, "small") if row.photo_small else "",
            category=row.best["category"] if row.best else "",
        )
    return found


def pick_examples(ids: Sequence[str], examples: Mapping[str, ExampleProduct]) -> list[ExampleProduct]:
    """Return the examples with these ids that still exist, in the order of the ids."""
    return [examples[id] for id in ids if id in examples]
