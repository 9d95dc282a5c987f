"""Find out what the columns of a table say about a category tree."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from classifier.taxonomy.tree import PATH_SIGN, TreeError
from common.tables.columns import column_key

_KEY = ("key",)
_ID = ("id", "code", "number", "categoryid")
_PATH = ("path", "fullpath", "fullname", "categorypath", "category")
_PARENT = ("parent", "parentid", "parentkey", "parentcode")
_NAME = ("name", "label", "title", "categoryname")
_SYNONYMS = ("synonyms", "aliases", "searchterms", "keywords")
_LEVEL = re.compile(r"(?:level|lvl)(\d{1,2})")
_LANGUAGE = re.compile(r"\s*(?P<field>name|label|synonyms)[_ :-](?P<language>[a-z]{2,3}(?:-[A-Za-z]{2,4})?)\s*")
_BETWEEN_SYNONYMS = re.compile(r"\s*[|;]\s*")


@dataclass(slots=True)
class TreeRow:
    """A row of a file: a category by its path, or by its name and its parent's id.

    With `has_keys`, ids are whole keys, as Aisle writes them, and not ids of the file's scheme.
    """

    line: int
    id: str = ""
    has_keys: bool = False
    path: list[str] = field(default_factory=list)
    name: str = ""
    parent: str = ""
    names: dict[str, str] = field(default_factory=dict)
    synonyms: dict[str, tuple[str, ...]] = field(default_factory=dict)


class TreeColumns:
    """The places of a table's columns. Raises TreeError for a table that doesn't say where a category is."""

    def __init__(self, header: Sequence[str]) -> None:
        keys = [column_key(name) for name in header]
        key = _place(keys, _KEY)
        self._has_keys = key is not None
        self._id = _place(keys, _ID) if key is None else key
        self._path = _place(keys, _PATH)
        self._parent, self._name = _place(keys, _PARENT), _place(keys, _NAME)
        self._levels = [place for _level, place in sorted(_levels(keys))]
        self._languages = [(place, found) for place, name in enumerate(header) if (found := _LANGUAGE.fullmatch(name))]
        self._synonyms = _place(keys, _SYNONYMS)
        has_parents = None not in (self._id, self._parent, self._name)
        if self._path is None and not self._levels and not has_parents:
            raise TreeError(
                'No column says where a category is. Name it "path", with cells such as "Home > Kitchen > Pans", or use'
                f' a column for each level, "level 1", "level 2"; or "id", "name" and "parent". There are: '
                f"{', '.join(name for name in header if name)}."
            )

    def row(self, line: int, cells: Sequence[str]) -> TreeRow:
        row = TreeRow(line, _cell(cells, self._id), self._has_keys)
        if self._path is not None:
            row.path = [name.strip() for name in _cell(cells, self._path).split(PATH_SIGN.strip())]
        elif self._levels:
            row.path = _without_blank_end([_cell(cells, place) for place in self._levels])
        else:
            row.name, row.parent = _cell(cells, self._name), _cell(cells, self._parent)
        for place, found in self._languages:
            cell = _cell(cells, place)
            if cell and found["field"] == "synonyms":
                row.synonyms[found["language"]] = _split(cell)
            elif cell:
                row.names[found["language"]] = cell
        if cell := _cell(cells, self._synonyms):
            row.synonyms[""] = _split(cell)
        return row


def _place(keys: Sequence[str], names: Sequence[str]) -> int | None:
    return next((keys.index(name) for name in names if name in keys), None)


def _levels(keys: Sequence[str]) -> list[tuple[int, int]]:
    found = [(place, _LEVEL.fullmatch(key)) for place, key in enumerate(keys)]
    return [(int(level[1]), place) for place, level in found if level]


def _cell(cells: Sequence[str], place: int | None) -> str:
    return cells[place].strip() if place is not None and place < len(cells) else ""


def _without_blank_end(names: list[str]) -> list[str]:
    while names and not names[-1]:
        names.pop()
    return names


def _split(cell: str) -> tuple[str, ...]:
    return tuple(filter(None, _BETWEEN_SYNONYMS.split(cell.strip())))
