"""Find the rows of all apps that name a category, and point them to the one that takes its place."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from django.db import models
from django.db.models import Count

from classifier.models import Category
from classifier.models.taxonomy import CategoryBefore, Reassignment, TaxonomyVersion

ROWS_AT_ONCE = 5_000

# Relations whose rows say what a person chose at the time. Apps add theirs in `ready()`.
_kept: set[str] = set()


def keep_references(*relations: str) -> None:
    """Leave the rows of these relations, as "feedback.Feedback.category", at a category that was replaced."""
    _kept.update(relations)


def count_references(categories: Iterable[Category]) -> dict[int, Counter[str]]:
    """Return by category how many rows of each model name it."""
    ids = [category.pk for category in categories]
    found: dict[int, Counter[str]] = {pk: Counter() for pk in ids}
    for field in _relations():
        rows = field.model._default_manager.filter(**{f"{field.name}__in": ids}).order_by()
        for row in rows.values(field.name).annotate(rows=Count("pk")):
            found[row[field.name]][str(field.model._meta.verbose_name_plural)] += row["rows"]
    return found


def reassign(version: TaxonomyVersion, replaced_by: Mapping[int, int]) -> int:
    """Point rows from categories to those that take their place, by primary key; return how many.

    What each row named before is recorded, so that `take_back` can undo it. Relations in `keep_references` stay.
    """
    moved = 0
    for field in _relations():
        label = _label(field)
        if label in _kept:
            continue
        rows = field.model._default_manager.filter(**{f"{field.name}__in": list(replaced_by)}).order_by()
        named = list(rows.select_for_update().values_list("pk", field.name))
        Reassignment.objects.bulk_create(
            (
                Reassignment(version=version, relation=label, row=str(pk), before_id=old, after_id=replaced_by[old])
                for pk, old in named
            ),
            batch_size=ROWS_AT_ONCE,
        )
        for old, new in replaced_by.items():
            moved += field.model._default_manager.filter(**{field.name: old}).update(**{field.name: new})
    return moved


def take_back(version: TaxonomyVersion) -> int:
    """Point the rows that a version reassigned back to their category; return how many.

    A row that was changed since, or deleted, stays as it is.
    """
    taken_back = 0
    fields = {_label(field): field for field in _relations()}
    pairs = version.reassignments.order_by().values_list("relation", "before", "after").distinct()
    for relation, before, after in list(pairs):
        field = fields[relation]
        moved = version.reassignments.filter(relation=relation, before=before, after=after)
        for rows in _batches([field.model._meta.pk.to_python(row) for row in moved.values_list("row", flat=True)]):
            unchanged = field.model._default_manager.filter(pk__in=rows, **{field.name: after})
            taken_back += unchanged.update(**{field.name: before})
    return taken_back


def _relations() -> Iterator["models.ForeignKey[Category, Category]"]:
    """Yield the foreign keys to Category of other models."""
    own = {Category, CategoryBefore, Reassignment}
    for relation in Category._meta.get_fields(include_hidden=True):
        field = getattr(relation, "field", None)
        if relation.auto_created and isinstance(field, models.ForeignKey) and field.model not in own:
            yield field


def _label(field: "models.ForeignKey[Category, Category]") -> str:
    return f"{field.model._meta.label}.{field.name}"


def _batches(rows: list[object]) -> Iterator[list[object]]:
    return (rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE))
