"""manage.py import_products PATH...: import labelled products as training examples."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from common.object_storage import StorageDown
from common.tables.cells import has_levels
from common.tables.columns import NAMES, parse_columns
from common.tables.errors import SourceError
from common.tables.reader import ProductFile
from training.datasets.category_lookup import CategoryLookup
from training.datasets.importing import ImportReport, import_products
from training.datasets.snapshot_storage import is_disk_full
from training.models import Split

INTERRUPTED = 130
LEVELS = (1, 2, 3, 4, -1)  # that are offered for categories which are paths


class Command(BaseCommand):
    help = (
        "Import labelled products as training examples: a csv (or .csv.gz) with photos beside it, in folders or zip "
        "archives. Bad rows are skipped and listed in a file. Importing twice changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", nargs="+", type=Path, help="a csv file, or a folder with a products.csv")
        parser.add_argument("--source", default="", help="what to call the data; default: the folder's name")
        parser.add_argument("--category-column", metavar="NAME", help="the column of the category")
        parser.add_argument(
            "--column", action="append", default=[], metavar="FIELD=NAME", help=f"FIELD: {', '.join(NAMES)}"
        )
        parser.add_argument(
            "--map", type=Path, metavar="FILE", help="a csv: the source's name, a category's slug or name"
        )
        parser.add_argument(
            "--category-level", type=int, metavar="N",
            help="take this level of categories that are paths (A > B): 1 is the first, -1 the last",
        )  # fmt: skip
        parser.add_argument("--encoding", default="", metavar="NAME", help="the files' encoding, where it isn't UTF-8")
        parser.add_argument("--create-categories", action="store_true", help="create a category for each unknown name")
        parser.add_argument("--errors", type=Path, metavar="FILE", help="where to list the rows that are skipped")

    def handle(
        self,
        *,
        path: list[Path],
        source: str,
        category_column: str | None,
        column: list[str],
        map: Path | None,
        category_level: int | None,
        encoding: str,
        create_categories: bool,
        errors: Path | None,
        **options: Any,
    ) -> None:
        if category_level == 0:
            raise CommandError("--category-level 0: levels count from 1, or from -1 backwards.")
        if len(path) > 1 and (source or errors):
            raise CommandError("--source and --errors are for one PATH at a time.")
        try:
            columns = parse_columns(column)
            if category_column:
                columns["category"] = category_column
            # All files are opened and checked before the first row is imported.
            files = [ProductFile(item, columns, encoding=encoding) for item in path]
            categories = CategoryLookup(map=map, creates=create_categories, level=category_level, encoding=encoding)
            for products in files:
                self._import(products, source, categories, errors)
        except SourceError as error:
            raise CommandError(str(error)) from error
        except (StorageDown, OSError) as error:
            why = "There is no room left on the disk" if is_disk_full(error) else str(error)
            raise CommandError(f"{why}. What was imported stays; run the same command again to continue.") from error

    def _import(self, products: ProductFile, source: str, categories: CategoryLookup, errors: Path | None) -> None:
        if not products.encoding.startswith("utf-"):
            self.stderr.write(f"{products.table} is not UTF-8: read as {products.encoding}. --encoding reads another.")
        bar = tqdm(
            total=products.rows, desc=source or products.name, unit="row", file=sys.stderr,
            mininterval=0.2 if sys.stderr.isatty() else 10,
        )  # fmt: skip
        try:
            with products, bar:
                report = import_products(
                    products=products, source=source, categories=categories, errors=errors, progress=bar.update
                )
        except KeyboardInterrupt:
            self.stderr.write("Stopped. What was imported stays; run the same command again to continue.")
            sys.exit(INTERRUPTED)
        self.stdout.write(_summary(report, products, categories))


def _summary(report: ImportReport, products: ProductFile, categories: CategoryLookup) -> str:
    outcome = report.outcome
    table: list[tuple[str, int]] = [("rows", report.rows), ("added", outcome.added.total())]
    table += [(f"  {split.label.lower()}", outcome.added[split]) for split in Split if outcome.added[split]]
    table += [("updated", outcome.updated), ("unchanged", outcome.unchanged), ("skipped", report.skipped.total())]
    table += [(f"  {reason}", count) for reason, count in report.skipped.most_common()]
    if report.further_rows:
        table.append(("further rows of the same product", report.further_rows))
    if report.without_photo:
        table.append(("imported without their photo", report.without_photo.total()))
        table += [(f"  {reason}", count) for reason, count in report.without_photo.most_common()]
    if report.further_photos:
        table.append(("further photos, not imported", report.further_photos))
    width = max(len(name) for name, _count in table)
    lines = [report.source, *(f"  {name:{width}} {count:10,}" for name, count in table)]
    used = {field: name for field in NAMES if (name := getattr(products.columns, field))}
    lines.append("Columns read: " + ", ".join(f"{field} = {name}" for field, name in used.items()))
    if not products.has_photos:
        lines.append("No photos: the table names none, and there are none beside it.")
    if report.created_categories:
        lines.append(f"Categories created: {', '.join(report.created_categories)}")
    if categories.map and not report.mapped:
        lines.append(f"The map {categories.map} matches no category of this file. Check the names in its first column.")
    if report.unknown_categories:
        names = ", ".join(f"{name!r} ({count:,})" for name, count in report.unknown_categories.most_common(8))
        more = f" and {len(report.unknown_categories) - 8} more" if len(report.unknown_categories) > 8 else ""
        lines.append(
            f"Unknown categories: {names}{more}. Add aliases in the admin, or give --map or --create-categories."
        )
        lines += _level_hint(report, categories)
    if report.error_file:
        lines.append(f"These rows are listed in {report.error_file}")
    return "\n".join(lines)


def _level_hint(report: ImportReport, categories: CategoryLookup) -> list[str]:
    """Return a line that offers the level of the paths at which most rows have a category that is known."""
    paths = {name: count for name, count in report.unknown_categories.items() if has_levels(name)}
    if not paths:
        return []
    found, names = Counter(dict.fromkeys(LEVELS, 0)), {level: Counter[str]() for level in LEVELS}
    for name, count in paths.items():
        for level in LEVELS:
            at_level, is_known = categories.names_at_level(name, level)
            found[level] += count * is_known
            names[level].update(dict.fromkeys(at_level[:1], count))
    best, rows = found.most_common(1)[0]
    text = f"{sum(paths.values()):,} of these rows have paths or lists of categories: "
    if rows:
        return [f"{text}--category-level {best} finds the category of {rows:,}."]
    offers = [
        f"--category-level {level} reads {', '.join(repr(name) for name, _count in names[level].most_common(3))}"
        for level in LEVELS[:2]
        if names[level]
    ]
    return [f"{text}{'; '.join(offers)}, none of which is a category yet."]
