"""Read product files: a CSV table, plain or gzipped, with photos in folders or zip archives beside it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from common.tables.dialect import (
    DELIMITERS,
    LONGEST_FIELD,
    TableRows,
    find_encoding,
    find_table,
    open_table,
    source_name,
)
from common.tables.errors import RowError, SourceError
from common.tables.photos import PhotoFolder

# The names of each column in files, in order of preference.
NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "imgid", "img_id", "image_id", "product_id", "productid", "external_id", "uniq_id", "asin", "sku"),
    "title": ("title", "name", "product_name", "product_title", "productname"),
    "description": ("description", "product_description", "desc", "text", "details"),
    "category": ("category", "categories", "label", "class", "product_category", "category_name", "main_category"),
    "image": ("image", "image_path", "img", "photo", "picture", "filename", "file_name", "image_name"),
    "shard": ("shard", "archive", "zip"),
    "group": ("group", "subcategory", "sub_category"),
}


@dataclass(frozen=True)
class Columns:
    """The names of the columns that are read; empty for those that the file doesn't have."""

    id: str = ""
    title: str = ""
    description: str = ""
    category: str = ""
    image: str = ""
    shard: str = ""
    group: str = ""


@dataclass(frozen=True)
class SourceRow:
    """One product as it stands in the file, from the line `line`."""

    line: int
    id: str
    title: str
    description: str
    category: str
    image: str
    shard: str
    group: str


class ProductFile:
    """A table of products with the photos beside it; a context manager, because it holds archives open.

    `rows` is the number of rows and `encoding` the table's encoding, both found by reading the file once. Raises
    SourceError for a file that can't be read, and for a table without an id, a category, or any content.
    """

    def __init__(self, path: Path, columns: Mapping[str, str] | None = None) -> None:
        self.table = find_table(path)
        self.name = source_name(self.table)
        self.encoding = find_encoding(self.table)
        with open_table(self.table, self.encoding) as lines:
            header = lines.readline(LONGEST_FIELD)
            self._delimiter = max(DELIMITERS, key=header.count)
            lines.seek(0)
            rows = TableRows(lines, self.table, self._delimiter)
            names = next(rows, [])
            if isinstance(names, RowError) or not any(name.strip() for name in names):
                raise SourceError(f"{self.table} is empty: it has no line with the names of its columns.")
            self._header = [name.strip() for name in names]
            self.rows = sum(1 for row in rows if row)
        self.columns = _columns(self.table, self._header, columns or {})
        self._photos = PhotoFolder(self.table.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._photos.close()

    def __iter__(self) -> Iterator["SourceRow | tuple[int, RowError]"]:
        """Yield every row, or (line, error) where a line can't be read as one."""
        places: dict[str, int] = {}  # of the columns that the file has
        for field in fields(Columns):
            column = getattr(self.columns, field.name)
            if column:
                places[field.name] = self._header.index(column)
        with open_table(self.table, self.encoding) as lines:
            rows = TableRows(lines, self.table, self._delimiter)
            next(rows, None)
            for cells in rows:
                if not cells:
                    continue
                if isinstance(cells, RowError):
                    yield rows.line, cells
                elif len(cells) > len(self._header):
                    message = f"{len(cells)} cells under {len(self._header)} columns: is a quotation mark missing?"
                    yield rows.line, RowError("unreadable line", message)
                else:
                    values = dict.fromkeys(_FIELDS, "")
                    for name, place in places.items():
                        if place < len(cells):
                            values[name] = cells[place]
                    yield SourceRow(rows.line, **values)

    @property
    def has_photos(self) -> bool:
        """Whether photos are looked for: the table names them, or there are some beside it."""
        return bool(self.columns.image) or self._photos.has_photos

    def photo(self, row: SourceRow, *, limit: int) -> bytes | None:
        """Return the row's photo file, or None when it names none. `limit` is the most bytes it may have.

        Raises RowError for one that is missing, unreadable or too large. Threads may call it at once.
        """
        if self.columns.image and not row.image.strip():
            return None
        if not self.columns.image and not self._photos.has_photos:
            return None
        return self._photos.read(row.image.strip() or row.id.strip(), row.shard.strip(), limit)


_FIELDS = tuple(field.name for field in fields(Columns))


def _columns(table: Path, header: list[str], given: Mapping[str, str]) -> Columns:
    lower: dict[str, str] = {}
    for name in header:
        lower.setdefault(name.lower(), name)
    found = {}
    for field, names in NAMES.items():
        if field in given:
            if given[field].lower() not in lower:
                raise SourceError(f"{table} has no column {given[field]!r}. It has: {', '.join(header)}.")
            found[field] = lower[given[field].lower()]
        else:
            found[field] = next((lower[name] for name in names if name in lower), "")
    columns = Columns(**found)
    for field in ("id", "category"):
        if not getattr(columns, field):
            raise SourceError(
                f"{table} has no column for the {field}. It has: {', '.join(header)}. Say which it is: "
                f"--column {field}=NAME"
            )
    return columns
