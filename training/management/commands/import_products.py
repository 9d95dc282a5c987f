"""manage.py import_products PATH...: import labelled products as training examples."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from common.object_storage import StorageDown
from common.tables.errors import SourceError
from common.tables.reader import NAMES, ProductFile
from training.datasets.importing import CategoryLookup, ImportReport, import_products
from training.datasets.snapshot_storage import is_disk_full
from training.models import Split

INTERRUPTED = 130


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
        create_categories: bool,
        errors: Path | None,
        **options: Any,
    ) -> None:
        columns = _columns(column, category_column)
        if len(path) > 1 and (source or errors):
            raise CommandError("--source and --errors are for one PATH at a time.")
        try:
            # All files are opened and checked before the first row is imported.
            files = [ProductFile(item, columns) for item in path]
            categories = CategoryLookup(map=map, creates=create_categories)
            for products in files:
                self._import(products, source, categories, errors)
        except SourceError as error:
            raise CommandError(str(error)) from error
        except (StorageDown, OSError) as error:
            why = "There is no room left on the disk" if is_disk_full(error) else str(error)
            raise CommandError(f"{why}. What was imported stays; run the same command again to continue.") from error

    def _import(self, products: ProductFile, source: str, categories: CategoryLookup, errors: Path | None) -> None:
        if products.encoding == "latin-1":
            self.stderr.write(f"{products.table} is not UTF-8: read as Latin-1. Check whether the accents are right.")
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
        self.stdout.write(_summary(report, products))


def _columns(given: list[str], category: str | None) -> dict[str, str]:
    columns = {"category": category} if category else {}
    for item in given:
        name, separator, column = item.partition("=")
        if name not in NAMES or not separator or not column:
            raise CommandError(f"--column {item}: write FIELD=NAME, where FIELD is one of {', '.join(NAMES)}.")
        columns[name] = column
    return columns


def _summary(report: ImportReport, products: ProductFile) -> str:
    outcome = report.outcome
    table: list[tuple[str, int]] = [("rows", report.rows), ("added", outcome.added.total())]
    table += [(f"  {split.label.lower()}", outcome.added[split]) for split in Split if outcome.added[split]]
    table += [("updated", outcome.updated), ("unchanged", outcome.unchanged), ("skipped", report.skipped.total())]
    table += [(f"  {reason}", count) for reason, count in report.skipped.most_common()]
    width = max(len(name) for name, _count in table)
    lines = [report.source, *(f"  {name:{width}} {count:10,}" for name, count in table)]
    used = {field: name for field in NAMES if (name := getattr(products.columns, field))}
    lines.append("Columns read: " + ", ".join(f"{field} = {name}" for field, name in used.items()))
    if not products.has_photos:
        lines.append("No photos: the table names none, and there are none beside it.")
    if report.created_categories:
        lines.append(f"Categories created: {', '.join(report.created_categories)}")
    if report.unknown_categories:
        names = ", ".join(f"{name!r} ({count:,})" for name, count in report.unknown_categories.most_common(8))
        more = f" and {len(report.unknown_categories) - 8} more" if len(report.unknown_categories) > 8 else ""
        lines.append(
            f"Unknown categories: {names}{more}. Add aliases in the admin, or give --map or --create-categories."
        )
    if report.error_file:
        lines.append(f"The skipped rows are listed in {report.error_file}")
    return "\n".join(lines)
