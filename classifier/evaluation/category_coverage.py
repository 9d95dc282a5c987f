"""Which of the categories on offer a model version can suggest, and which would be lost if it served."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from classifier.models import Category

MOST_NAMED = 8


@dataclass(frozen=True)
class Coverage:
    """How many of the active categories a model can suggest.

    `missing` are those that it can't, `lost` those of them that the model in whose place it would serve can: names by
    slug, in the order of the names.
    """

    offered: int
    missing: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)

    @property
    def suggested(self) -> int:
        return self.offered - len(self.missing)

    def __str__(self) -> str:
        return _("%(suggested)d of %(offered)d categories") % {"suggested": self.suggested, "offered": self.offered}

    def to_json(self) -> dict[str, Any]:
        return {"offered": self.offered, "missing": list(self.missing), "lost": list(self.lost)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Coverage":
        """Return a coverage as it was, under the names that the categories have now."""
        names = dict(Category.objects.values_list("slug", "name"))
        missing, lost = ({slug: names.get(slug, slug) for slug in values[key]} for key in ("missing", "lost"))
        return cls(values["offered"], missing, lost)


def active_categories() -> dict[str, str]:
    """Return the names of the active categories by slug, in the order of the names."""
    return dict(Category.objects.active().order_by("name").values_list("slug", "name"))


def coverage_of(
    labels: Collection[str], *, before: Collection[str] = (), active: Mapping[str, str] | None = None
) -> Coverage:
    """Return the coverage of a model with these labels; `before` are the labels of the one that serves.

    `active` saves the query where many versions are looked at.
    """
    known, serving = set(labels), set(before)
    active = active_categories() if active is None else active
    missing = {slug: name for slug, name in active.items() if slug not in known}
    lost = {slug: name for slug, name in missing.items() if slug in serving}
    return Coverage(offered=len(active), missing=missing, lost=lost)


def name_list(names: Iterable[str]) -> str:
    """Return the first names, separated by semicolons, and how many more there are."""
    every = list(names)
    shown, more = "; ".join(every[:MOST_NAMED]), len(every) - MOST_NAMED
    return _("%(names)s; and %(count)d more") % {"names": shown, "count": more} if more > 0 else shown
