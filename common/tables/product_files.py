"""Product files from anywhere: a csv, plain or gzipped, with photos beside it in folders or zip archives.

Nothing in such a file is trusted: names that lead out of its folder, archives that inflate, lines that are no csv.
"""

import codecs
import csv
import gzip
import io
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path, PurePosixPath
from threading import Lock
from types import TracebackType
from typing import IO, Self

TABLES = ("products.csv", "products.csv.gz")
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
# By what names, in this order, a column is known.
NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "imgid", "img_id", "image_id", "product_id", "productid", "external_id", "uniq_id", "asin", "sku"),
    "title": ("title", "name", "product_name", "product_title", "productname"),
    "description": ("description", "product_description", "desc", "text", "details"),
    "category": ("category", "categories", "label", "class", "product_category", "category_name", "main_category"),
    "image": ("image", "image_path", "img", "photo", "picture", "filename", "file_name", "image_name"),
    "shard": ("shard", "archive", "zip"),
    "group": ("group", "subcategory", "sub_category"),
}
LONGEST_FIELD = 1_000_000  # characters
LONGEST_ROW = 4_000_000  # characters; beyond, the file is no table
DEEPEST_FOLDER = 3


class SourceError(Exception):
    """A file that can't be imported at all; the message says why and what to do."""


class RowError(Exception):
    """A row that is left out. `reason` is for counting, the message for the person who mends it."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


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
    """A table of products with the photos beside it. Use it as a context manager: it holds archives open.

    `rows` is how many rows there are and `encoding` what they are written in; both come from one look through the
    file. Raises SourceError for what can't be read, and for a table without an id, a category, or any content.
    """

    def __init__(self, path: Path, columns: Mapping[str, str] | None = None) -> None:
        self.table = _find_table(path)
        self.name = _name(self.table)
        self.encoding = _encoding(self.table)
        with self._lines() as lines:
            header = lines.readline(LONGEST_FIELD)
            self._delimiter = max(",;\t|", key=header.count)
            lines.seek(0)
            rows = _Rows(lines, self.table, self._delimiter)
            names = next(rows, [])
            if isinstance(names, RowError) or not any(name.strip() for name in names):
                raise SourceError(f"{self.table} is empty: it has no line with the names of its columns.")
            self._header = [name.strip() for name in names]
            self.rows = sum(1 for row in rows if row)
        self.columns = _columns(self.table, self._header, columns or {})
        self._photos = _Photos(self.table.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._photos.close()

    def __iter__(self) -> Iterator["SourceRow | tuple[int, RowError]"]:
        """Yield every row, or (line, error) where a line can't be read as one."""
        places = {
            field.name: self._header.index(name)
            for field in fields(Columns)
            if (name := getattr(self.columns, field.name))
        }
        with self._lines() as lines:
            rows = _Rows(lines, self.table, self._delimiter)
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
                    values = {name: cells[place] if place < len(cells) else "" for name, place in places.items()}
                    yield SourceRow(rows.line, **{field: values.get(field, "") for field in _FIELDS})

    @property
    def has_photos(self) -> bool:
        """Whether photos are looked for: the table names them, or there are some beside it."""
        return bool(self.columns.image) or self._photos.are_there

    def photo(self, row: SourceRow, *, limit: int) -> bytes | None:
        """Return the row's photo file, or None when it names none. `limit` is the most bytes it may have.

        Raises RowError for one that is missing, unreadable or too large. Threads may call it at once.
        """
        if self.columns.image and not row.image.strip():
            return None
        if not self.columns.image and not self._photos.are_there:
            return None
        return self._photos.read(row.image.strip() or row.id.strip(), row.shard.strip(), limit)

    def _lines(self) -> "IO[str]":
        raw = gzip.open(self.table) if self.table.suffix == ".gz" else self.table.open("rb")  # noqa: SIM115
        return io.TextIOWrapper(raw, encoding=self.encoding, newline="")


_FIELDS = tuple(field.name for field in fields(Columns))


# What zipfile raises for a member. RuntimeError: it is encrypted, or compressed in a way that nobody here knows.
_UNREADABLE = (
    OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, ValueError, MemoryError,
)  # fmt: skip


class _Photos:
    """The photos beside a table: in its folder, in folders under it, and in zip archives."""

    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()
        self._folders = _folders(self._root)
        self._likeliest = self._root  # photos of neighbouring rows lie in the same folder
        self._lock = Lock()
        self._archives: dict[str, zipfile.ZipFile] = {}
        self._members: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] | None = None
        self._shards = sorted(path for path in self._root.glob("*.zip") if path.is_file() and not path.is_symlink())

    @cached_property
    def are_there(self) -> bool:
        return bool(self._shards) or any(
            entry.name.lower().endswith(PHOTO_ENDINGS) for folder in self._folders for entry in os.scandir(folder)
        )

    def close(self) -> None:
        for archive in self._archives.values():
            archive.close()

    def read(self, name: str, shard: str, limit: int) -> bytes:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or "\0" in name or ":" in name:
            raise RowError("missing photo", f"{name!r} is no name of a photo beside the table.")
        names = [str(path)] if path.suffix.lower() in PHOTO_ENDINGS else [f"{path}{end}" for end in PHOTO_ENDINGS]
        with self._lock:
            member = self._in_shard(shard, names)
        if member:
            return self._from_archive(*member, limit)
        for candidate in names:
            if found := self._file(candidate):
                return _read_file(found, limit)
        with self._lock:
            member = self._in_any_archive(names)
        if member:
            return self._from_archive(*member, limit)
        raise RowError("missing photo", f"There is no photo {names[0]!r}{f' in {shard}' if shard else ''}.")

    def _file(self, name: str) -> Path | None:
        for folder in (self._likeliest, *self._folders):
            with suppress(OSError, ValueError):  # a name that no file can have
                found = folder / name
                if stat.S_ISREG(found.stat().st_mode) and found.resolve().is_relative_to(self._root):
                    self._likeliest = folder
                    return found
        return None

    def _in_shard(self, shard: str, names: list[str]) -> tuple[zipfile.ZipFile, zipfile.ZipInfo] | None:
        """Return where the photo is in the archive that its row names; None where that was unpacked."""
        if not shard or not any(shard == path.name for path in self._shards):
            return None
        archive = self._archive(self._root / shard)
        for name in names:
            with suppress(KeyError):
                return archive, archive.getinfo(name)
        return None

    def _in_any_archive(self, names: list[str]) -> tuple[zipfile.ZipFile, zipfile.ZipInfo] | None:
        if self._members is None:
            self._members = {}
            for shard in self._shards:
                archive = self._archive(shard)
                for info in archive.infolist():
                    for known in (info.filename, PurePosixPath(info.filename).name):
                        self._members.setdefault(known, (archive, info))
        return next((self._members[name] for name in names if name in self._members), None)

    def _archive(self, path: Path) -> zipfile.ZipFile:
        if path.name not in self._archives:
            try:
                self._archives[path.name] = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
                raise RowError("unreadable archive", f"{path.name}: {error}") from error
        return self._archives[path.name]

    def _from_archive(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
        if info.file_size > limit:
            raise RowError("photo too large", f"{info.filename!r} has {info.file_size} bytes; the limit is {limit}.")
        try:
            with archive.open(info) as file:
                return _within(file.read(limit + 1), limit, info.filename)  # its directory may lie about its size
        except _UNREADABLE as error:
            raise RowError("broken photo", f"{info.filename!r} in its archive: {error}") from error


def _read_file(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return _within(file.read(limit + 1), limit, path.name)
    except OSError as error:
        raise RowError("missing photo", f"{path.name}: {error.strerror}") from error


def _within(content: bytes, limit: int, name: str) -> bytes:
    if len(content) > limit:
        raise RowError("photo too large", f"{name!r} has more than {limit} bytes.")
    return content


def _folders(root: Path) -> list[Path]:
    found = []
    for path, below, _files in os.walk(root):
        found.append(Path(path))
        if len(Path(path).relative_to(root).parts) >= DEEPEST_FOLDER:
            below.clear()
        below.sort()
    return found


def _find_table(path: Path) -> Path:
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


def _name(table: Path) -> str:
    stem = table.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".tsv")
    return table.resolve().parent.name if table.name in TABLES else stem


def _encoding(table: Path) -> str:
    """Look through the file once; return utf-8-sig, utf-16, or latin-1 for what is neither."""
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


class _Rows:
    """The rows of a table, a RowError for each that is none.

    csv reads a line, and all lines of a row, before it looks at their length; so a row is measured here, while it
    comes in. Raises SourceError for one that has no end.
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
