"""Draft, apply and undo versions of the category tree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Category
from classifier.models.taxonomy import CategoryBefore, TaxonomyChange, TaxonomyVersion
from classifier.taxonomy import references
from classifier.taxonomy.changes import Change, ChangeKind, KnownCategory, TreeChanges, compare
from classifier.taxonomy.tree import PATH_SIGN, AliasPath, Tree
from common.locks import Lock, hold_lock
from common.sql import load_query

ROWS_AT_ONCE = 2_000
# What a version may change of a category, and undoing it gives back.
FIELDS = ("name", "parent_id", "position", "is_active", "redirect_id", "names", "codes")
SET_PATHS = load_query(__file__, "set_paths")


class TaxonomyError(Exception):
    """A version that can't be applied or undone; the message says why."""


def known_categories() -> list[KnownCategory]:
    """Return the categories as they are."""
    rows = Category.objects.order_by("depth", "position", "name").values_list(
        "slug", "name", "parent__slug", "is_active"
    )
    return [KnownCategory(key, name, parent or "", is_active) for key, name, parent, is_active in rows]


def compare_with_categories(
    tree: Tree, *, redirects: Mapping[str, Sequence[str]] | None = None, replaces_all: bool = False
) -> TreeChanges:
    """Return what a tree would change; its problems are those of the tree, too."""
    found = compare(tree, known_categories(), redirects=redirects, replaces_all=replaces_all)
    found.problems[:0] = [*tree.problems, *map(_alias_path_problem, tree.alias_paths)]
    return found


def _alias_path_problem(alias: AliasPath) -> str:
    return f"{alias.key} stands a second time, as {PATH_SIGN.join(alias.path)}: the first place is kept."


def draft_version(
    *,
    tree: Tree,
    source: str,
    redirects: Mapping[str, Sequence[str]] | None = None,
    replaces_all: bool = False,
    created_by: Any = None,
) -> TaxonomyVersion:
    """Store what a tree would change, and how many rows of each model each change touches. Nothing else changes."""
    found = compare_with_categories(tree, redirects=redirects, replaces_all=replaces_all)
    return _store_draft(
        found,
        source=source,
        scheme=tree.scheme,
        scheme_version=tree.version,
        problems=found.problems,
        created_by=created_by,
    )


@transaction.atomic
def _store_draft(found: TreeChanges, **fields: Any) -> TaxonomyVersion:
    nodes = [asdict(node) for node in found.nodes.values()]
    version = TaxonomyVersion.objects.create(nodes=nodes, counts=found.counts(), **fields)
    touched = _touched([change.key for change in found.changes if change.kind != ChangeKind.ADD])
    TaxonomyChange.objects.bulk_create(
        (_change_row(version, change, touched.get(change.key, Counter())) for change in found.changes),
        batch_size=ROWS_AT_ONCE,
    )
    return version


def _change_row(version: TaxonomyVersion, change: Change, touched: Counter[str]) -> TaxonomyChange:
    return TaxonomyChange(
        version=version,
        kind=change.kind,
        key=change.key,
        before=change.before,
        after=change.after,
        targets=list(change.targets),
        touched={name: count for name, count in sorted(touched.items()) if count},
    )


def _touched(keys: Sequence[str]) -> dict[str, Counter[str]]:
    categories = list(Category.objects.filter(slug__in=keys))
    counts = references.count_references(categories)
    return {category.slug: counts[category.pk] for category in categories}


def apply_version(version: TaxonomyVersion) -> TaxonomyVersion:
    """Make the categories those of a draft, in one transaction; record what is needed to undo it.

    Raises TaxonomyError for a version that is no draft, and for a draft that no longer fits the categories.
    """
    with hold_lock(Lock.TAXONOMY), transaction.atomic():
        version = TaxonomyVersion.objects.select_for_update().get(pk=version.pk)
        if version.state != TaxonomyVersion.State.DRAFT:
            raise TaxonomyError(_("This version is not a draft: only a draft can be applied."))
        changes = list(version.changes.all())
        _check_draft(changes)
        _Application(version, changes).run()
        version.state, version.applied_at = TaxonomyVersion.State.APPLIED, timezone.now()
        version.save(update_fields=["state", "applied_at"])
    return version


def _check_draft(changes: Sequence[TaxonomyChange]) -> None:
    added = [change.key for change in changes if change.kind == ChangeKind.ADD]
    others = {change.key for change in changes if change.kind != ChangeKind.ADD}
    taken = Category.objects.filter(slug__in=added).values_list("slug", flat=True).first()
    missing = others - set(Category.objects.filter(slug__in=others).values_list("slug", flat=True))
    if taken or missing:
        raise TaxonomyError(
            _("The categories have changed since this draft was made (%(key)s). Make the draft again.")
            % {"key": taken or min(missing)}
        )


class _Application:
    """The application of one version."""

    def __init__(self, version: TaxonomyVersion, changes: Sequence[TaxonomyChange]) -> None:
        self.version, self.changes = version, changes
        self.nodes = {node["key"]: node for node in version.nodes}
        self.categories = {category.slug: category for category in Category.objects.select_for_update()}
        self.before: dict[int, dict[str, Any] | None] = {}

    def run(self) -> None:
        # Leaving categories first: a name is unique among the active children of a parent.
        self._leave()
        self._write_nodes()
        self._redirect()
        with connection.cursor() as cursor:
            cursor.execute(SET_PATHS)
        CategoryBefore.objects.bulk_create(
            (CategoryBefore(version=self.version, category_id=pk, values=values) for pk, values in self.before.items()),
            batch_size=ROWS_AT_ONCE,
        )

    def _leave(self) -> None:
        leaving = (ChangeKind.MERGE, ChangeKind.SPLIT, ChangeKind.RETIRE)
        categories = [self.categories[change.key] for change in self.changes if change.kind in leaving]
        for category in categories:
            self._remember(category)
            category.is_active = False
        Category.objects.bulk_update(categories, ["is_active"], batch_size=ROWS_AT_ONCE)

    def _write_nodes(self) -> None:
        """Add and change the categories of the tree, level by level, for a child needs its parent's primary key."""
        positions: Counter[str] = Counter()
        level = [node for node in self.version.nodes if not node["parent"]]
        children: dict[str, list[dict[str, Any]]] = {}
        for node in self.version.nodes:
            children.setdefault(node["parent"], []).append(node)
        while level:
            added, changed = [], []
            for node in level:
                values = self._values(node, positions[node["parent"]])
                positions[node["parent"]] += 1
                category = self.categories.get(node["key"])
                if category is None:
                    added.append(Category(slug=node["key"], **values))
                elif any(getattr(category, name) != value for name, value in values.items()):
                    self._remember(category)
                    for name, value in values.items():
                        setattr(category, name, value)
                    changed.append(category)
            Category.objects.bulk_update(changed, FIELDS_TO_UPDATE, batch_size=ROWS_AT_ONCE)
            for category in Category.objects.bulk_create(added, batch_size=ROWS_AT_ONCE):
                self.categories[category.slug] = category
                self.before[category.pk] = None
            level = [child for node in level for child in children.get(node["key"], [])]

    def _values(self, node: Mapping[str, Any], position: int) -> dict[str, Any]:
        category = self.categories.get(node["key"])
        return {
            "name": node["name"],
            "parent_id": self.categories[node["parent"]].pk if node["parent"] else None,
            "position": position,
            "is_active": True,
            "redirect_id": None,
            "names": {**(category.names if category else {}), **node["names"]},
            "codes": {**(category.codes if category else {}), **node["codes"]},
        }

    def _redirect(self) -> None:
        merged = [change for change in self.changes if change.kind == ChangeKind.MERGE]
        replaced_by = {}
        for change in merged:
            category, target = self.categories[change.key], self.categories[change.targets[0]]
            category.redirect_id = target.pk
            replaced_by[category.pk] = target.pk
        Category.objects.bulk_update(
            [self.categories[change.key] for change in merged], ["redirect"], batch_size=ROWS_AT_ONCE
        )
        # A category that was redirected to one that is now replaced is redirected to its replacement, too.
        for earlier in Category.objects.filter(redirect__in=replaced_by):
            self._remember(earlier)
            Category.objects.filter(pk=earlier.pk).update(redirect=replaced_by[earlier.redirect_id or 0])
        references.reassign(self.version, replaced_by)

    def _remember(self, category: Category) -> None:
        self.before.setdefault(category.pk, {name: getattr(category, name) for name in FIELDS})


FIELDS_TO_UPDATE = [name.removesuffix("_id") for name in FIELDS]


def undo_version(version: TaxonomyVersion) -> TaxonomyVersion:
    """Give every category and every reassigned row back what it had before the version was applied.

    Raises TaxonomyError for a version that isn't the last one applied, and when rows name a category that it added.
    """
    with hold_lock(Lock.TAXONOMY), transaction.atomic():
        version = TaxonomyVersion.objects.select_for_update().get(pk=version.pk)
        later = TaxonomyVersion.objects.filter(state=TaxonomyVersion.State.APPLIED, applied_at__gt=version.applied_at)
        if version.state != TaxonomyVersion.State.APPLIED or later.exists():
            raise TaxonomyError(_("Only the version that was applied last can be undone."))
        references.take_back(version)
        added = list(
            Category.objects.filter(pk__in=version.categories_before.filter(values__isnull=True).values("category"))
        )
        _check_unused(added)
        # Not active any more, so that none has the name that another one gets back.
        Category.objects.filter(pk__in=[category.pk for category in added]).update(is_active=False)
        _give_back(version)
        for depth in sorted(
            {category.depth for category in added}, reverse=True
        ):  # a parent is protected by its children
            Category.objects.filter(pk__in=[category.pk for category in added if category.depth == depth]).delete()
        with connection.cursor() as cursor:
            cursor.execute(SET_PATHS)
        version.state, version.undone_at = TaxonomyVersion.State.UNDONE, timezone.now()
        version.save(update_fields=["state", "undone_at"])
    return version


def _check_unused(added: Sequence[Category]) -> None:
    for pk, counts in references.count_references(added).items():
        used = {name: count for name, count in counts.items() if count}
        if used:
            name = next(category.name for category in added if category.pk == pk)
            rows = ", ".join(f"{count:,} {model}" for model, count in used.items())
            raise TaxonomyError(
                _("“%(name)s” came with this version and is in use since: %(rows)s. Merge it first.")
                % {"name": name, "rows": rows}
            )


def _give_back(version: TaxonomyVersion) -> None:
    rows = list(version.categories_before.filter(values__isnull=False).select_related("category"))
    for row in rows:
        for name, value in (row.values or {}).items():
            setattr(row.category, name, value)
    Category.objects.bulk_update([row.category for row in rows], FIELDS_TO_UPDATE, batch_size=ROWS_AT_ONCE)
