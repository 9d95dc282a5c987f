"""Import product files as examples. Importing twice changes nothing; a killed import is run again."""

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils.text import slugify

from classifier.table_photos import small_copy
from common.object_storage import storage_faults
from common.tables.errors import RowError, SourceError
from common.tables.reader import ProductFile, SourceRow
from common.tables.writing import safe_cell
from common.text import clean_description, clean_line, clean_title, without_placeholder
from training.datasets.category_lookup import CategoryLookup
from training.datasets.examples import ImportOutcome, IncomingExample, store_examples
from training.models import FEEDBACK, Example

ROWS_AT_ONCE = 500
LONGEST_ID = 120
MOST_UNKNOWN = 1_000  # names that are counted one by one; further ones are counted as OTHERS
LONGEST_UNKNOWN = 120  # characters
OTHERS = "others"


@dataclass
class ImportReport:
    """The outcome of an import, and for each reason how many rows it skipped."""

    source: str
    outcome: ImportOutcome = field(default_factory=ImportOutcome)
    skipped: Counter[str] = field(default_factory=Counter)
    unknown_categories: Counter[str] = field(default_factory=Counter)
    created_categories: list[str] = field(default_factory=list)
    without_photo: Counter[str] = field(default_factory=Counter)  # rows kept with their text alone, by reason
    further_photos: int = 0  # that rows name behind the first one; they are not imported
    further_rows: int = 0  # of a product that the row above has: its variants and further photos
    mapped: int = 0  # rows whose category came from the map
    error_file: Path | None = None

    @property
    def rows(self) -> int:
        """How many rows were read."""
        stored = self.outcome.added.total() + self.outcome.updated + self.outcome.unchanged
        return stored + self.skipped.total() + self.further_rows

    def count_unknown(self, name: str) -> None:
        """Count an unknown category's name."""
        # A hostile file has a new name, and a long one, in every row: their number and length are bounded.
        name = clean_line(name, limit=LONGEST_UNKNOWN)
        if name not in self.unknown_categories and len(self.unknown_categories) >= MOST_UNKNOWN:
            name = OTHERS
        self.unknown_categories[name] += 1


def import_products(
    *,
    products: ProductFile,
    source: str = "",
    categories: CategoryLookup | None = None,
    errors: Path | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> ImportReport:
    """Store every good row as an example of `source` (default: the folder's name); skip and list the others.

    A row whose photo can't be read keeps its text, and is listed too. The list is written to `errors` (default: a file
    in TRAINING_DIR named after the source). `progress` is called with the number of rows of each batch. Raises
    SourceError for an unusable source name, and StorageDown.
    """
    source = source or products.name
    if not source or len(source) > Example._meta.get_field("source").max_length or source == FEEDBACK:  # type: ignore[operator]
        raise SourceError(f"{source!r} can't be a source's name: give another, of at most 60 characters, by --source.")
    categories = categories or CategoryLookup()
    errors = errors or Path(settings.TRAINING_DIR) / f"import-errors-{slugify(source) or 'products'}.csv"
    report = ImportReport(source)
    mapped_before = categories.mapped
    reader = _RowReader(categories, report)
    with ExitStack() as stack:
        log = stack.enter_context(_ErrorLog(errors, report))
        workers = stack.enter_context(ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="photos"))
        rows = iter(products)
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            good = reader.check(batch, log)
            known = {e.external_id: e for e in Example.objects.filter(source=source, external_id__in=good)}
            read_row = partial(_read_row, products, known)
            results = workers.map(read_row, good, *zip(*good.values(), strict=True)) if good else iter(())
            ready = []
            for (row, _category), result in zip(good.values(), results, strict=True):
                if isinstance(result, RowError):
                    log.skip(row.line, row.id, result)
                    continue
                if result.photo_fault:
                    log.note_photo(row.line, row.id, result.photo_fault)
                report.further_photos += result.further_photos
                ready.append(result.example)
            if ready:
                report.outcome.add(store_examples(source=source, rows=ready))
            progress(len(batch))
    report.created_categories = categories.created
    report.mapped = categories.mapped - mapped_before
    return report


class _RowReader:
    """Check the ids and categories of rows, in the order of the file."""

    def __init__(self, categories: CategoryLookup, report: ImportReport) -> None:
        self._categories, self._report = categories, report
        self._seen: set[bytes] = set()  # hashes of the ids, 8 bytes each, so that memory stays small
        self._last_id = ""

    def check(
        self, batch: Sequence[SourceRow | tuple[int, RowError]], log: "_ErrorLog"
    ) -> dict[str, tuple[SourceRow, int]]:
        """Return the good rows of a batch by their ids, with their categories; log the others."""
        good: dict[str, tuple[SourceRow, int]] = {}
        for row in batch:
            if not isinstance(row, SourceRow):
                log.skip(row[0], "", row[1])
                continue
            try:
                id = clean_id(row.id)
                if self._is_further_row(row, id):
                    self._report.further_rows += 1
                    continue
                self._last_id = id
                self._check_unseen(id)
                good[id] = row, self._categories.find(row.category)
            except RowError as error:
                log.skip(row.line, row.id, error)
                if error.reason == "unknown category":
                    self._report.count_unknown(row.category)
        return good

    def _is_further_row(self, row: SourceRow, id: str) -> bool:
        """Return whether shop exports write this row for another variant or photo of the product above."""
        return id == self._last_id and not row.title.strip() and not row.description.strip()

    def _check_unseen(self, id: str) -> None:
        key = hashlib.blake2b(id.encode(), digest_size=8).digest()
        if key in self._seen:
            raise RowError("duplicate id", "An earlier line has the same id.")
        self._seen.add(key)


def store_photo(small: bytes) -> tuple[str, str]:
    """Store a small copy under its checksum, unless it is there already; return its name and the checksum."""
    digest = hashlib.sha256(small).hexdigest()
    name, storage = f"photos/{digest}.jpg", storages["datasets"]
    with storage_faults():
        try:
            # A process that was killed while it wrote may have left a shorter file.
            is_stored = storage.size(name) == len(small)
        except FileNotFoundError:
            is_stored = False
        if not is_stored:
            storage.save(name, ContentFile(small))
    return name, digest


@dataclass(frozen=True)
class _ReadRow:
    """A row as an example, why its photo is not used, and how many further photos it names."""

    example: IncomingExample
    photo_fault: RowError | None = None
    further_photos: int = 0


def _read_row(
    products: ProductFile, examples: Mapping[str, Example], id: str, row: SourceRow, category_id: int
) -> _ReadRow | RowError:
    """Return the row as an example, its photo stored, or the reason why it is skipped."""
    known = examples.get(id)
    title, description = clean_title(row.title), clean_description(row.description)
    photo, fault = None, None
    try:
        photo = products.photo(row, limit=settings.UPLOAD_LIMIT_BYTES)
        stored = _stored_photo(photo.content, known) if photo else _StoredPhoto()
    except RowError as error:
        if not title and not description:
            return error
        # An earlier import's photo stays: that its file is not here now says nothing about the product.
        stored, fault = _known_photo(known), error
    if not stored.name and not title and not description:
        return RowError("no input", "The row has no title, no description and no photo.")
    group = clean_line(row.group, limit=Example._meta.get_field("group").max_length)
    example = IncomingExample(
        id, title, description, category_id, stored.name, stored.digest, stored.original_digest, group
    )
    return _ReadRow(example, fault, photo.others if photo else 0)


@dataclass(frozen=True)
class _StoredPhoto:
    """Where a photo is stored, its checksum and its original's; empty without one."""

    name: str = ""
    digest: str = ""
    original_digest: str = ""


def _stored_photo(original: bytes, known: Example | None) -> _StoredPhoto:
    original_digest = hashlib.sha256(original).hexdigest()
    # Decoding takes most of an import's time: an unchanged photo is not decoded again.
    if known and known.original_digest == original_digest:
        return _known_photo(known)
    return _StoredPhoto(*store_photo(small_copy(original)), original_digest)


def _known_photo(known: Example | None) -> _StoredPhoto:
    return _StoredPhoto(known.photo, known.photo_digest, known.original_digest) if known else _StoredPhoto()


def clean_id(id: str) -> str:
    """Return a product's id in its source. Raises RowError for one that is empty or too long."""
    id = without_placeholder(clean_line(id))
    if not id:
        raise RowError("no id", "The id is empty.")
    if len(id) > LONGEST_ID:
        raise RowError("id too long", f"The id has {len(id)} characters; the limit is {LONGEST_ID}.")
    return id


class _ErrorLog:
    """The csv file of the rows that were skipped or lack their photo; created with the first one."""

    def __init__(self, path: Path, report: ImportReport) -> None:
        self._path, self._report = path, report
        self._file: io.TextIOWrapper | None = None
        self._writer: Any = None

    def __enter__(self) -> "_ErrorLog":
        self._path.unlink(missing_ok=True)  # of an earlier import
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._file.close()

    def skip(self, line: int, id: str, error: RowError) -> None:
        """Count and list a skipped row."""
        self._report.skipped[error.reason] += 1
        self._write(line, id, error.reason, str(error))

    def note_photo(self, line: int, id: str, error: RowError) -> None:
        """Count and list a row whose text was imported without its photo."""
        self._report.without_photo[error.reason] += 1
        self._write(line, id, error.reason, f"{error} The text was imported.")

    def _write(self, line: int, id: str, reason: str, detail: str) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", newline="", encoding="utf-8", buffering=1)
            self._report.error_file = self._path
            self._writer = csv.writer(self._file)
            self._writer.writerow(["line", "id", "reason", "detail"])
        self._writer.writerow([line, safe_cell(id), reason, detail])
