"""Compute which active categories a version can suggest, and which would be lost if it were deployed."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from classifier.models import Category

MOST_NAMED = 8


@dataclass(frozen=True)
class Coverage:
    """How many of the active categories a version can suggest.

    `missing` are those that it can't suggest, `lost` those of them that the live version can: names by slug, in the
    order of the names.
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
        """Return the slugs, as `ModelVersion.gate` stores them."""
        return {"offered": self.offered, "missing": list(self.missing), "lost": list(self.lost)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Coverage":
        """Return a stored coverage, with the categories' present names."""
        names = dict(Category.objects.values_list("slug", "name"))
        missing, lost = ({slug: names.get(slug, slug) for slug in values[key]} for key in ("missing", "lost"))
        return cls(values["offered"], missing, lost)


def active_categories() -> dict[str, str]:
    """Return the names of the active categories by slug, in the order of the names."""
    return dict(Category.objects.active().order_by("name").values_list("slug", "name"))


def coverage_of(
    labels: Collection[str], *, before: Collection[str] = (), active: Mapping[str, str] | None = None
) -> Coverage:
    """Return the coverage of a version with these labels; `before` are the labels of the live version.

    `active` saves a query for each of many versions.
    """
    known, serving = set(labels), set(before)
    active = active_categories() if active is None else active
    missing = {slug: name for slug, name in active.items() if slug not in known}
    lost = {slug: name for slug, name in missing.items() if slug in serving}
    return Coverage(offered=len(active), missing=missing, lost=lost)


def name_list(names: Iterable[str]) -> str:
    """Return the first names, separated by semicolons, and the number of the others."""
    every = list(names)
    shown, more = "; ".join(every[:MOST_NAMED]), len(every) - MOST_NAMED
    return _("%(names)s; and %(count)d more") % {"names": shown, "count": more} if more > 0 else shown
