"""Import product files as examples. Importing twice changes nothing; a killed import is run again."""

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping
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

from classifier.models import Category, CategoryAlias
from common.object_storage import storage_faults
from common.photo_decoding import decode_trusted
from common.photos.headers import Fault, PictureError
from common.tables.errors import RowError, SourceError
from common.tables.reader import ProductFile, SourceRow
from common.text import clean_description, clean_line, clean_title
from training.datasets.examples import ImportOutcome, IncomingExample, store_examples
from training.models import FEEDBACK, Example

ROWS_AT_ONCE = 500
LONGEST_ID = 120
LONGEST_NAME = 80
LEFT_OUT = "left out by the map"
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
    error_file: Path | None = None

    @property
    def rows(self) -> int:
        """How many rows were read."""
        return self.outcome.added.total() + self.outcome.updated + self.outcome.unchanged + self.skipped.total()

    def count_unknown(self, name: str) -> None:
        """Count an unknown category's name."""
        # A hostile file has a new name, and a long one, in every row: their number and length are bounded.
        name = clean_line(name, limit=LONGEST_UNKNOWN)
        if name not in self.unknown_categories and len(self.unknown_categories) >= MOST_UNKNOWN:
            name = OTHERS
        self.unknown_categories[name] += 1


class CategoryLookup:
    """Find categories by any of their names, which are loaded once.

    `map` is a csv file of two columns: a source's name, and the slug or name of a category (empty: leave it out).
    Raises SourceError for a map that can't be read or names an unknown category.
    """

    def __init__(self, *, map: Path | None = None, creates: bool = False) -> None:
        self.created: list[str] = []
        self._creates = creates
        self._known: dict[str, int | None] = {}
        for pk, slug, name in Category.objects.values_list("pk", "slug", "name"):
            self._known |= {_fold(slug): pk, _fold(name): pk}
        # Names and slugs win over aliases.
        for name, pk in CategoryAlias.objects.values_list("name", "category_id"):
            self._known.setdefault(_fold(name), pk)
        if map:
            self._known |= self._read_map(map)

    def find(self, name: str) -> int:
        """Return the category's key. Raises RowError for a name that is unknown, empty or left out by the map."""
        folded = _fold(name)
        if not folded:
            raise RowError("no category", "The category is empty.")
        if folded not in self._known:
            by_slug = self._known.get(slugify(name))  # "Clothing Shoes & Jewelry" for "Clothing, Shoes & Jewelry"
            if by_slug is None and self._creates:
                by_slug = self._create(name)
            if by_slug is None:
                raise RowError(
                    "unknown category", f"{clean_line(name)[:200]!r} is not the name, slug or alias of a category."
                )
            self._known[folded] = by_slug
        found = self._known[folded]
        if found is None:
            raise RowError(LEFT_OUT, f"The map leaves {clean_line(name)!r} out.")
        return found

    def _create(self, name: str) -> int:
        name = clean_line(name)
        if len(name) > LONGEST_NAME:
            raise RowError("unknown category", f"{name[:80]!r}... is too long for a category's name.")
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        category, is_new = Category.objects.get_or_create(
            slug=slugify(name)[:LONGEST_NAME] or f"category-{digest}", defaults={"name": name}
        )
        if is_new:
            self.created.append(name)
        return category.pk

    def _read_map(self, map: Path) -> dict[str, int | None]:
        try:
            with map.open(newline="", encoding="utf-8-sig") as file:
                lines = [(number, row) for number, row in enumerate(csv.reader(file), start=1) if any(row)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise SourceError(f"The map {map} can't be read: {error}") from error
        found: dict[str, int | None] = {}
        wrong = []
        for number, row in lines:
            target = row[1].strip() if len(row) > 1 else ""
            try:
                found[_fold(row[0])] = self.find(target) if target else None
            except RowError as error:
                if number > 1:  # the first line may be a heading
                    wrong.append(f"line {number}: {error}")
        if wrong:
            raise SourceError(f"The map {map} names unknown categories. {' '.join(wrong[:10])}")
        return found


def import_products(
    *,
    products: ProductFile,
    source: str = "",
    categories: CategoryLookup | None = None,
    errors: Path | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> ImportReport:
    """Store every good row as an example of `source` (default: the folder's name); skip and list the others.

    Bad rows are written to `errors` (default: a file in TRAINING_DIR named after the source). `progress` is called with
    the number of rows of each batch. Raises SourceError for an unusable source name, and StorageDown.
    """
    source = source or products.name
    if not source or len(source) > Example._meta.get_field("source").max_length or source == FEEDBACK:  # type: ignore[operator]
        raise SourceError(f"{source!r} can't be a source's name: give another, of at most 60 characters, by --source.")
    categories = categories or CategoryLookup()
    errors = errors or Path(settings.TRAINING_DIR) / f"import-errors-{slugify(source) or 'products'}.csv"
    report = ImportReport(source)
    seen: set[bytes] = set()  # hashes of the ids, 8 bytes each, so that memory stays small
    with ExitStack() as stack:
        log = stack.enter_context(_ErrorLog(errors, report))
        workers = stack.enter_context(ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="photos"))
        rows = iter(products)
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            good: dict[str, tuple[SourceRow, int]] = {}
            for row in batch:
                if not isinstance(row, SourceRow):
                    log.skip(row[0], "", row[1])
                    continue
                try:
                    good[_checked_id(row, seen)] = row, categories.find(row.category)
                except RowError as error:
                    log.skip(row.line, row.id, error)
                    if error.reason == "unknown category":
                        report.count_unknown(row.category)
            known = {e.external_id: e for e in Example.objects.filter(source=source, external_id__in=good)}
            ready = []
            read_row = partial(_read_row, products, known)
            results = workers.map(read_row, good, *zip(*good.values(), strict=True)) if good else iter(())
            for (row, _category), result in zip(good.values(), results, strict=True):
                if isinstance(result, RowError):
                    log.skip(row.line, row.id, result)
                else:
                    ready.append(result)
            if ready:
                report.outcome.add(store_examples(source=source, rows=ready))
            progress(len(batch))
        report.created_categories = categories.created
    return report


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


def small_copy(original: bytes) -> bytes:
    """Decode a photo as an upload is; return its small copy. Raises RowError for one that an upload would refuse."""
    try:
        return decode_trusted(original).small
    except PictureError as error:
        if error.fault in (Fault.TOO_MANY_PIXELS, Fault.TOO_MUCH_MEMORY):
            raise RowError("photo too large", f"The photo is too large: {error}.") from error
        raise RowError("broken photo", f"The photo can't be decoded: {error}") from error


def _read_row(
    products: ProductFile, examples: Mapping[str, Example], id: str, row: SourceRow, category_id: int
) -> IncomingExample | RowError:
    """Return the row as an example, its photo stored, or the reason why it is skipped."""
    known = examples.get(id)
    try:
        original = products.photo(row, limit=settings.UPLOAD_LIMIT_BYTES)
        title, description = clean_title(row.title), clean_description(row.description)
        if original is None and not title and not description:
            raise RowError("no input", "The row has no title, no description and no photo.")
        photo = photo_digest = original_digest = ""
        if original is not None:
            original_digest = hashlib.sha256(original).hexdigest()
            # Decoding takes most of an import's time: an unchanged photo is not decoded again.
            if known and known.original_digest == original_digest:
                photo, photo_digest = known.photo, known.photo_digest
            else:
                photo, photo_digest = store_photo(small_copy(original))
    except RowError as error:
        return error
    group = clean_line(row.group, limit=Example._meta.get_field("group").max_length)
    return IncomingExample(id, title, description, category_id, photo, photo_digest, original_digest, group)


def _checked_id(row: SourceRow, seen: set[bytes]) -> str:
    id = clean_line(row.id)
    if not id:
        raise RowError("no id", "The id is empty.")
    if len(id) > LONGEST_ID:
        raise RowError("id too long", f"The id has {len(id)} characters; the limit is {LONGEST_ID}.")
    key = hashlib.blake2b(id.encode(), digest_size=8).digest()
    if key in seen:
        raise RowError("duplicate id", "An earlier line has the same id.")
    seen.add(key)
    return id


class _ErrorLog:
    """The csv file of the skipped rows; created with the first one."""

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
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", newline="", encoding="utf-8", buffering=1)
            self._report.error_file = self._path
            self._writer = csv.writer(self._file)
            self._writer.writerow(["line", "id", "reason", "detail"])
        self._report.skipped[error.reason] += 1
        self._writer.writerow([line, _safe_cell(id), error.reason, str(error)])


def _safe_cell(text: str) -> str:
    """Quote an id that a spreadsheet would run as a formula."""
    text = clean_line(text, limit=200)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _fold(name: str) -> str:
    return clean_line(name).casefold()
