"""Read product files: a CSV table, plain or gzipped, with photos in folders or zip archives beside it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from common.tables.cells import count_photo_names, is_address, photo_names
from common.tables.columns import FIELDS, Columns, choose_columns, find_candidates
from common.tables.dialect import TableRows, find_dialect, find_table, open_text, source_name, trimmed
from common.tables.errors import RowError, SourceError
from common.tables.photos import PhotoFolder

NEEDED = ("id", "category")


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


@dataclass(frozen=True)
class ProductPhoto:
    """A product's photo file, and how many further ones its row names."""

    content: bytes
    others: int = 0


class ProductFile:
    """A table of products with the photos beside it; a context manager, because it holds archives open.

    `rows` is the number of rows and `encoding` the table's encoding, both found by reading the file. `columns` names
    columns by field, `needed` the fields without which the table is useless. Raises SourceError for a file that can't
    be read, and for a table without a column that is needed.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str] | None = None,
        *,
        encoding: str = "",
        needed: Collection[str] = NEEDED,
    ) -> None:
        self.table = find_table(path)
        self.name = source_name(self.table)
        self._dialect = find_dialect(self.table, encoding=encoding, columns=columns)
        self.encoding = self._dialect.encoding
        with open_text(self.table, self.encoding) as lines:
            rows = TableRows(lines, self.table, self._dialect)
            names = next(rows, [])
            if isinstance(names, RowError) or not names:
                why = f" {names}" if isinstance(names, RowError) else ""
                raise SourceError(f"{self.table} is empty: it has no line with the names of its columns.{why}")
            header = [name.strip() for name in names]
            candidates = find_candidates(header, self.table, given=columns or {})
            # A table without a needed column is refused before the rest of it is read.
            choose_columns(header, self.table, candidates=candidates, filled=(), needed=needed)
            self.rows, filled = _count_rows(rows, {place for places in candidates.values() for place in places})
        self._places = choose_columns(header, self.table, candidates=candidates, filled=filled, needed=needed)
        self.columns = Columns(**{field: header[place] for field, place in self._places.items()})
        self._width = len(header)
        self._photos = PhotoFolder(self.table.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._photos.close()

    def __iter__(self) -> Iterator["SourceRow | tuple[int, RowError]"]:
        """Yield every row, or (line, error) where a line can't be read as one."""
        with open_text(self.table, self.encoding) as lines:
            rows = TableRows(lines, self.table, self._dialect)
            next(rows, None)
            for cells in rows:
                yield (rows.line, cells) if isinstance(cells, RowError) else self._row(rows.line, cells)

    def _row(self, line: int, cells: list[str]) -> "SourceRow | tuple[int, RowError]":
        if len(trimmed(cells)) > self._width:
            message = f"{len(cells)} cells under {self._width} columns: is a quotation mark missing?"
            return line, RowError("unreadable line", message)
        values = dict.fromkeys(FIELDS, "")
        for name, place in self._places.items():
            if place < len(cells):
                values[name] = cells[place]
        return SourceRow(line, **values)

    @property
    def has_photos(self) -> bool:
        """Whether photos are looked for: the table names them, or there are some beside it."""
        return bool(self.columns.image) or self._photos.has_photos

    def photo(self, row: SourceRow, *, limit: int) -> ProductPhoto | None:
        """Return the first of the row's photos that exists, or None when it names none. `limit` is the most bytes.

        Raises RowError for one that is missing, ambiguous, unreadable or too large. Threads may call it at once.
        """
        if not self.columns.image:
            # The table names no photos: one that is called as the product's id is its photo, and needn't exist.
            found = self._photos.find(row.id, row.shard.strip()) if row.id.strip() else None
            return ProductPhoto(self._photos.read(found, limit)) if found else None
        names = photo_names(row.image)
        if not names:
            return None
        for name in names:
            if not is_address(name) and (found := self._photos.find(name, row.shard.strip())):
                others = 0 if name == row.image.strip() else count_photo_names(row.image) - 1
                return ProductPhoto(self._photos.read(found, limit), others)
        if all(map(is_address, names)):
            raise RowError("photo is an address", f"{names[0][:200]!r} is an address: photos are read from files only.")
        where = f" in {row.shard}" if row.shard else ""
        raise RowError("missing photo", f"There is no photo {row.image.strip()[:200]!r}{where}.")


def _count_rows(rows: TableRows, places: Collection[int]) -> tuple[int, set[int]]:
    """Return the number of rows left, and which of these places have content in any of them."""
    count = 0
    blank = set(places)
    for row in rows:
        count += 1
        if blank and not isinstance(row, RowError):
            blank -= {place for place in blank if place < len(row) and row[place].strip()}
    return count, set(places) - blank
