"""Find the category that a source's name means: by name, slug or alias, by a map, or at a level of a path."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from django.db import IntegrityError, transaction
from django.utils.text import slugify

from classifier.models import Category, CategoryAlias
from common.tables.category_names import exact_key, loose_key
from common.tables.cells import category_at, category_paths, is_category_path, path_pieces
from common.tables.dialect import Dialect, TableRows, find_dialect, open_text
from common.tables.errors import RowError, SourceError
from common.text import clean_line, without_placeholder

LONGEST_NAME = 80
LEFT_OUT = "left out by the map"
MOST_REMEMBERED = 10_000  # names whose category is remembered
MOST_SUFFIXES = 1_000


class _Names:
    """Categories by name, exactly or loosely; None is what the map leaves out."""

    def __init__(self) -> None:
        self._exact: dict[str, int | None] = {}
        self._loose: dict[str, set[int | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._exact)

    def add(self, name: str, category: int | None) -> None:
        self._exact.setdefault(exact_key(name), category)
        self._loose.setdefault(loose_key(name), set()).add(category)

    def exactly(self, name: str) -> set[int | None]:
        key = exact_key(name)
        return {self._exact[key]} if key in self._exact else set()

    def loosely(self, name: str) -> set[int | None]:
        return self._loose.get(loose_key(name), set())


class CategoryLookup:
    """Find categories by any of their names, which are loaded once.

    `map` is a table of two columns: a source's name, and the slug or name of a category (empty: leave it out). `level`
    takes one level of names that are paths such as "A > B": 1 for the first, -1 for the last. `creates` makes a
    category of an unknown name. `encoding` is tried for a map whose own isn't clear. Raises SourceError for a map that
    can't be read or names an unknown category.
    """

    def __init__(
        self, *, map: Path | None = None, creates: bool = False, level: int | None = None, encoding: str = ""
    ) -> None:
        self.created: list[str] = []
        self.map = map
        self.mapped = 0  # how often the map was of use
        self._creates, self._level = creates, level
        self._remembered: dict[str, int | None] = {}
        self._of_the_map: set[str] = set()
        self._by_map, self._by_name, self._by_alias = _Names(), _Names(), _Names()
        # Names and slugs win over aliases.
        current: dict[int, int] = {}
        # Active ones first: an earlier name that another category has by now is that one's.
        rows = Category.objects.order_by("-is_active", "pk").values_list("pk", "redirect", "slug", "name")
        for pk, redirect, slug, name in rows:
            current[pk] = redirect or pk
            self._by_name.add(name, current[pk])
            self._by_name.add(slug, current[pk])
        for name, pk in CategoryAlias.objects.values_list("name", "category_id"):
            self._by_alias.add(name, current[pk])
        if map:
            self._by_map = self._read_map(map, encoding)
            self._remembered.clear()

    def find(self, name: str) -> int:
        """Return the category's key. Raises RowError for a name that is unknown, empty or left out by the map."""
        if name not in self._remembered:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[name] = self._search(name)
        if name in self._of_the_map:
            self.mapped += 1
        found = self._remembered[name]
        if found is None:
            raise RowError(LEFT_OUT, f"The map leaves {_shown(name)} out.")
        return found

    def names_at_level(self, name: str, level: int) -> tuple[list[str], bool]:
        """Return the names at a level of a path, and whether one of them is a category's."""
        names = [found for path in category_paths(name) if (found := category_at(path, level))]
        return names, any(self._known(found) for found in names)

    def _search(self, name: str) -> int | None:
        candidates = [name]
        if self._level is not None:
            candidates += [category_at(path, self._level) for path in category_paths(name)]
        for candidate in filter(None, candidates):
            found = self._known(candidate)
            if len(found) > 1:
                raise RowError("unknown category", f"{_shown(candidate)} may be any of {len(found)} categories.")
            if found:
                if self._by_map.exactly(candidate) or self._by_map.loosely(candidate):
                    self._of_the_map.add(name)
                return next(iter(found))
        if not without_placeholder(clean_line(name)):
            raise RowError("no category", "The category is empty.")
        if self._creates:
            return self._create(self._name_to_create(name))
        raise RowError("unknown category", f"{_shown(name)} is not the name, slug or alias of a category.")

    def _known(self, name: str) -> set[int | None]:
        layers = (self._by_map, self._by_name, self._by_alias)
        for layer in layers:
            if found := layer.exactly(name):
                return found
        for layer in layers:
            if loose_key(name) and (found := layer.loosely(name)):
                return found
        return set()

    def _name_to_create(self, name: str) -> str:
        if self._level is None:
            if is_category_path(name):
                raise RowError("unknown category", f"{_shown(name)} is a path: choose a level with --category-level.")
            return name
        found = next(filter(None, (category_at(path, self._level) for path in path_pieces(name))), "")
        if not found:
            raise RowError("no category", f"{_shown(name)} has no level {self._level}.")
        return found

    def _create(self, name: str) -> int:
        name = clean_line(name)
        if len(name) > LONGEST_NAME:
            raise RowError("unknown category", f"{name[:80]!r}... is too long for a category's name.")
        for slug in _free_slugs(name):
            try:
                with transaction.atomic():
                    category, is_new = Category.objects.get_or_create(name=name, defaults={"slug": slug})
            except IntegrityError:  # another import took the slug in the meantime
                continue
            if is_new:
                self.created.append(name)
            self._by_name.add(name, category.pk)
            return category.pk
        raise RowError("unknown category", f"{_shown(name)} has no slug left.")

    def _read_map(self, map: Path, encoding: str) -> _Names:
        found, wrong = _Names(), []
        entries: dict[str, int | None] = {}
        for number, (line, cells) in enumerate(_map_rows(map, encoding)):
            source, target = cells[0], cells[1].strip() if len(cells) > 1 else ""
            try:
                category = self.find(target) if target else None
            except RowError as error:
                if number:  # the first line may be a heading
                    wrong.append(f"line {line}: {error}")
                continue
            if entries.setdefault(exact_key(source), category) != category:
                wrong.append(f"line {line}: {_shown(source)} stands there again, with another category.")
            found.add(source, category)
        if wrong:
            raise SourceError(f"The map {map} names unknown categories. {' '.join(wrong[:10])}")
        if not found:
            raise SourceError(f"The map {map} has no line with a name and a category.")
        return found


def _map_rows(map: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    try:
        dialect = _map_dialect(map, encoding)
        with open_text(map, dialect.encoding) as lines:
            rows = TableRows(lines, map, dialect)
            for cells in rows:
                if isinstance(cells, RowError):
                    raise SourceError(f"line {rows.line}: {cells}")
                if rows.width < 2:
                    raise SourceError("it has one column. Write the source's name, a comma, and the category's name.")
                yield rows.line, cells
    except (OSError, SourceError) as error:
        raise SourceError(f"The map {map} can't be read: {error}") from error


def _map_dialect(map: Path, encoding: str) -> Dialect:
    try:
        return find_dialect(map)
    except SourceError:
        if not encoding:
            raise
        return find_dialect(map, encoding=encoding)


def _free_slugs(name: str) -> Iterator[str]:
    """Yield slugs that no category has; numbered where the plain one is taken."""
    base = slugify(name)[:LONGEST_NAME]
    if not any(character.isalpha() for character in base):  # of a name in another script hardly anything is left
        base = f"category-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    for number in range(1, MOST_SUFFIXES):
        suffix = f"-{number}" if number > 1 else ""
        slug = base[: LONGEST_NAME - len(suffix)] + suffix
        if not Category.objects.filter(slug=slug).exists():
            yield slug


def _shown(name: str) -> str:
    return repr(clean_line(name)[:200])
