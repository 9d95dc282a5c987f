"""Recognise how a table is written: its encoding, its delimiter, and a line that names the delimiter.

Nothing in such a file is trusted: it may have rows without an end, or not be a table at all.
"""

import csv
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Self

from common.tables.columns import count_known
from common.tables.encodings import find_encoding
from common.tables.errors import RowError, SourceError

TABLES = ("products.csv", "products.csv.gz")
ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
LONGEST_FIELD = 1_000_000  # characters
LONGEST_ROW = 4_000_000  # characters; a longer row means that the file is no table
MOST_UNCLOSED = 100  # rows with an unclosed quotation mark; each costs another look at the lines behind it
DELIMITERS = "\t;|,"  # where several fit: the comma is also a part of names
NO_DELIMITER = "\x1f"
SAMPLE_ROWS = 50
SAMPLE_CHARACTERS = 200_000

_DELIMITER_LINE = re.compile(r'"?sep=(.)"?[,;\t|]*\s*', re.IGNORECASE)
_OTHER_FILES = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive", "Save the sheet as CSV in UTF-8, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save the sheet as CSV in UTF-8"),
    (b"%PDF", "a PDF", "Export the table as CSV in UTF-8"),
    (b"PAR1", "a Parquet file", "Export the table as CSV in UTF-8"),
)


@dataclass(frozen=True)
class Dialect:
    """How a table is written. `preamble` is the number of lines before the table itself."""

    encoding: str
    delimiter: str
    preamble: int = 0


def find_table(path: Path) -> Path:
    """Return the table at the path or in the folder. Raises SourceError when there is none or more than one."""
    if not path.exists():
        raise SourceError(f"There is no {path}. Give a folder with a products.csv, or a csv file.")
    if path.is_file():
        if not path.name.lower().endswith(ENDINGS):
            raise SourceError(f"{path} is no csv file. Save or export it as CSV in UTF-8, and give that file.")
        return path
    for name in TABLES:
        if (path / name).is_file():
            return path / name
    tables = sorted(table for table in path.iterdir() if table.name.lower().endswith((".csv", ".csv.gz", ".tsv")))
    if len(tables) == 1:
        return tables[0]
    if tables:
        raise SourceError(
            f"{path} holds several csv files ({', '.join(table.name for table in tables[:5])}). Name the one to import."
        )
    below = sorted(child for child in path.iterdir() if any((child / name).is_file() for name in TABLES))
    if below:
        raise SourceError(f"{path} holds {len(below)} sets of products. Name them: {' '.join(map(str, below[:3]))} ...")
    raise SourceError(f"{path} holds no csv file. Give a folder with a products.csv, or a csv file.")


def source_name(table: Path) -> str:
    """Return the name of the source: the folder's for a `products.csv`, else the file's."""
    stem = re.sub(r"\.(csv|tsv|txt)(\.gz)?$", "", table.name, flags=re.IGNORECASE)
    return table.resolve().parent.name if table.name in TABLES else stem


def find_dialect(table: Path, *, encoding: str = "", columns: Mapping[str, str] | None = None) -> Dialect:
    """Read through the file once; return how it is written. Raises SourceError for a file that can't be read.

    `encoding` is the encoding's name if it is known, `columns` the names of columns that are known by field.
    """
    try:
        with _open_bytes(table) as file:
            encoding = find_encoding(file, table, encoding)
        with open_text(table, encoding) as lines:
            text = lines.read(SAMPLE_CHARACTERS)
    except EOFError as error:
        raise SourceError(f"{table} ends in the middle: it was not copied whole. Copy it again.") from error
    except (OSError, zlib.error) as error:
        raise SourceError(f"{table} can't be read: {error}") from error
    if named := _DELIMITER_LINE.fullmatch(text.partition("\n")[0].partition("\r")[0]):
        return Dialect(encoding, named[1], preamble=1)
    is_whole = len(text) < SAMPLE_CHARACTERS
    return Dialect(encoding, _find_delimiter(text, columns or {}, is_whole=is_whole))


def open_text(table: Path, encoding: str) -> IO[str]:
    """Open a table, gzipped or not, as text."""
    return io.TextIOWrapper(_open_bytes(table), encoding=encoding, newline="")


def _open_bytes(table: Path) -> IO[bytes]:
    """Open a table; whether it is gzipped says its content, not its name. Raises SourceError for no table."""
    file = table.open("rb")
    start = file.read(4)
    file.seek(0)
    for magic, kind, advice in _OTHER_FILES:
        if start.startswith(magic):
            file.close()
            raise SourceError(f"{table} is {kind}, not a csv file. {advice}.")
    return gzip.open(file) if start.startswith(b"\x1f\x8b") else file  # type: ignore[return-value]


def _find_delimiter(text: str, columns: Mapping[str, str], *, is_whole: bool) -> str:
    """Return the delimiter that gives the header most known names, and most rows as many cells as the header."""
    csv.field_size_limit(LONGEST_FIELD)
    best = max(DELIMITERS, key=lambda delimiter: _fitness(text, delimiter, columns, is_whole))
    return NO_DELIMITER if _fitness(text, best, columns, is_whole) == (0, 0.0, 0) else best


def _fitness(text: str, delimiter: str, columns: Mapping[str, str], is_whole: bool) -> tuple[int, float, int]:
    try:
        rows = list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), SAMPLE_ROWS))
    except csv.Error:  # a cell without an end; reading will name its line
        rows = list(csv.reader([text.partition("\n")[0][:LONGEST_FIELD]], delimiter=delimiter))
    if not is_whole and len(rows) < SAMPLE_ROWS and len(rows) > 1:
        rows.pop()  # the sample cut it
    rows = [row for row in rows if not is_blank(row)]
    if not rows or len(rows[0]) < 2:
        return 0, 0.0, 0
    width = len(trimmed(rows[0]))
    as_wide = sum(1 for row in rows[1:] if len(trimmed(row)) <= width <= len(row))
    return count_known(rows[0], columns), as_wide / max(1, len(rows) - 1), width


def is_blank(cells: Sequence[str]) -> bool:
    """Return whether a row has no content, as spreadsheets write it below their data."""
    return not any(cell.strip().strip(DELIMITERS) for cell in cells)


def trimmed(cells: Sequence[str]) -> list[str]:
    """Return the cells without the empty ones at the end."""
    end = len(cells)
    while end and not cells[end - 1].strip():
        end -= 1
    return list(cells[:end])


class TableRows:
    """The rows of a table that have content; a RowError in place of each that can't be read.

    csv reads all lines of a row before it looks at their length, so rows are measured here while they are read. It also
    takes every line up to the next quotation mark for a part of the cell: a row of several lines that isn't written
    exactly as CSV is refused, and reading goes on at its second line. Raises SourceError for a row that is too long.
    """

    def __init__(self, lines: IO[str], table: Path, dialect: Dialect) -> None:
        csv.field_size_limit(LONGEST_FIELD)
        self.line = 0  # the number of the first line of the row that was read last
        self.width = 0  # the number of columns; the first row sets it
        self._lines, self._table, self._delimiter = lines, table, dialect.delimiter
        self._again: deque[str] = deque()  # lines behind an unclosed quotation mark
        self._taken: list[str] = []  # lines of the current row
        self._next_line = 1 + dialect.preamble
        self._left = LONGEST_ROW
        self._unclosed = 0
        self._has_ended = False
        for _line in range(dialect.preamble):
            lines.readline(LONGEST_FIELD)
        self._reader = csv.reader(self._measured(), delimiter=self._delimiter)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[str] | RowError:
        while True:
            self.line, self._taken, self._left = self._next_line, [], LONGEST_ROW
            try:
                cells = next(self._reader)
            except csv.Error as error:
                self._reader = csv.reader(self._measured(), delimiter=self._delimiter)
                return RowError("unreadable line", str(error))
            # csv asks for a line behind the last one only while a quotation mark is open.
            if self._has_ended or (len(self._taken) > 1 and not self._is_exact(cells)):
                return self._unclosed_row()
            if not is_blank(cells):
                self.width = self.width or len(cells)
                return cells

    def _is_exact(self, cells: list[str]) -> bool:
        """Return whether the lines that were taken are exactly one row of the table's width."""
        try:
            rows = list(csv.reader(self._taken, delimiter=self._delimiter, strict=True))
        except csv.Error:
            return False
        return len(rows) == 1 and (not self.width or len(trimmed(cells)) <= self.width <= len(cells))

    def _unclosed_row(self) -> RowError:
        self._unclosed += 1
        if self._unclosed > MOST_UNCLOSED:
            raise SourceError(
                f"{self._table} has more than {MOST_UNCLOSED} quotation marks that aren't closed, the last one in line "
                f"{self.line}. Save it again as CSV, or double the quotation marks inside of texts."
            )
        self._again.extendleft(reversed(self._taken[1:]))
        self._next_line, self._has_ended = self.line + 1, False
        self._reader = csv.reader(self._measured(), delimiter=self._delimiter)
        return RowError(
            "unclosed quotation mark",
            f"The quotation mark that opens in line {self.line} isn't closed, or one inside of the text isn't doubled.",
        )

    def _measured(self) -> Iterator[str]:
        while line := self._again.popleft() if self._again else self._lines.readline(self._left + 1):
            self._left -= len(line)
            if self._left < 0:
                raise SourceError(
                    f"{self._table} is no table: the row at line {self.line} has more than {LONGEST_ROW:,} "
                    "characters. Is a line end or a quotation mark missing?"
                )
            self._taken.append(line)
            self._next_line += 1
            yield line
        self._has_ended = True
