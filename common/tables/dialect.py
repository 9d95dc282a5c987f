"""Find a table, its encoding and its delimiter, and read its rows.

Nothing in such a file is trusted: it may have rows without an end, or not be a table at all.
"""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from common.tables.errors import RowError, SourceError

TABLES = ("products.csv", "products.csv.gz")
LONGEST_FIELD = 1_000_000  # characters
LONGEST_ROW = 4_000_000  # characters; a longer row means that the file is no table
DELIMITERS = ",;\t|"


def find_table(path: Path) -> Path:
    """Return the table at the path or in the folder. Raises SourceError when there is none or more than one."""
    if not path.exists():
        raise SourceError(f"There is no {path}. Give a folder with a products.csv, or a csv file.")
    if path.is_file():
        if not path.name.lower().endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
            raise SourceError(f"{path} is no csv file. Give a folder with a products.csv, or a csv file.")
        return path
    for name in TABLES:
        if (path / name).is_file():
            return path / name
    tables = sorted(table for table in path.iterdir() if table.name.lower().endswith((".csv", ".csv.gz")))
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
    stem = table.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".tsv")
    return table.resolve().parent.name if table.name in TABLES else stem


def find_encoding(table: Path) -> str:
    """Read through the file once; return utf-8-sig, utf-16, or latin-1 for what is neither. Raises SourceError."""
    encoding, decoder = "utf-8-sig", None
    try:
        with gzip.open(table) if table.suffix == ".gz" else table.open("rb") as file:
            while chunk := file.read(1 << 20):
                if decoder is None:
                    if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                        encoding = "utf-16"
                    decoder = codecs.getincrementaldecoder(encoding)()
                if encoding != "latin-1":
                    try:
                        decoder.decode(chunk)
                    except UnicodeDecodeError:
                        if encoding == "utf-16":
                            raise
                        encoding = "latin-1"
            if decoder and encoding != "latin-1":
                decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise SourceError(f"{table} begins as UTF-16 but isn't: {error.reason}. Save it as UTF-8.") from error
        return "latin-1"
    except EOFError as error:
        raise SourceError(f"{table} ends in the middle: it was not copied whole. Copy it again.") from error
    except (OSError, zlib.error) as error:
        raise SourceError(f"{table} can't be read: {error}") from error
    return encoding


def open_table(table: Path, encoding: str) -> IO[str]:
    """Open a table, gzipped or not, as text."""
    raw = gzip.open(table) if table.suffix == ".gz" else table.open("rb")  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding=encoding, newline="")


class TableRows:
    """The rows of a table; a RowError in place of each that can't be read.

    csv reads all lines of a row before it looks at their length, so rows are measured here while they are read. Raises
    SourceError for a row that is too long.
    """

    def __init__(self, lines: IO[str], table: Path, delimiter: str) -> None:
        csv.field_size_limit(LONGEST_FIELD)
        self._lines, self._table = lines, table
        self._left = LONGEST_ROW
        self._reader = csv.reader(self._measured(), delimiter=delimiter)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[str] | RowError:
        self._left = LONGEST_ROW
        try:
            return next(self._reader)
        except csv.Error as error:
            return RowError("unreadable line", str(error))

    @property
    def line(self) -> int:
        """The number of the line that was read last."""
        return self._reader.line_num

    def _measured(self) -> Iterator[str]:
        while line := self._lines.readline(self._left + 1):
            self._left -= len(line)
            if self._left < 0:
                raise SourceError(
                    f"{self._table} is no table: the row at line {self.line + 1} has more than {LONGEST_ROW:,} "
                    "characters. Is a line end or a quotation mark missing?"
                )
            yield line
