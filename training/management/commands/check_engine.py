"""manage.py check_engine: compare the engines of this machine with the reference engine."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from classifier.ml.artifact import ArtifactError
from classifier.models import ModelVersion, Variant
from classifier.registry import versions
from common.object_storage import StorageDown
from common.tables.errors import SourceError
from common.tables.reader import ProductFile
from training.acceptance import engine_agreement
from training.acceptance.engine_agreement import MIN_ROWS, EngineCheck
from training.datasets import labelled_products
from training.datasets.category_lookup import CategoryLookup
from training.datasets.labelled_products import LabelledProduct


class Command(BaseCommand):
    help = (
        "Compare the engines of this machine with torch in float32 on labelled products, and store the result with the "
        "model version: an engine that fails is no longer used, and bf16 is used only where it passed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", nargs="*", help="an id, name or checksum (default: all deployed versions)")
        parser.add_argument(
            "--data",
            type=Path,
            nargs="+",
            metavar="PATH",
            help="csv files or folders as `import_products` reads them (default: the examples that were imported)",
        )
        parser.add_argument("--category-column", metavar="NAME", help="the column of the category")
        parser.add_argument("--limit", type=int, default=MIN_ROWS, metavar="N", help="products to compare on")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(
        self,
        *,
        version: list[str],
        data: list[Path] | None,
        category_column: str | None,
        limit: int,
        **options: Any,
    ) -> None:
        if limit < 1:
            raise CommandError("--limit must be at least 1.")
        try:
            chosen = [versions.find_version(name) for name in version]
            chosen = chosen or [variant.version for variant in Variant.objects.all()]
            with ExitStack() as open_files:
                columns = {"category": category_column} if category_column else {}
                files = [open_files.enter_context(ProductFile(path, columns)) for path in data or []]
                # More than needed: some have no text, no photo, or one that can't be read.
                products = labelled_products.sample_products(_products(files), 10 * limit)
                checks = {each: _compare(each, products, limit) for each in chosen}
        except (SourceError, ArtifactError, StorageDown, ModelVersion.DoesNotExist) as error:
            raise CommandError(str(error)) from error
        for each, found in checks.items():
            for name, check in found.items():
                if check.n >= MIN_ROWS:
                    engine_agreement.store_check(each, name, check)
        content = {str(v): {name: vars(c) | {"passed": c.passed} for name, c in f.items()} for v, f in checks.items()}
        self.stdout.write(json.dumps(content) if options["json"] else _table(checks))


def _products(files: list[ProductFile]) -> Iterator[LabelledProduct]:
    if not files:
        yield from labelled_products.stored_products()
    categories = CategoryLookup()
    for file in files:
        yield from labelled_products.products_in_file(file, categories)


def _compare(version: ModelVersion, products: list[LabelledProduct], limit: int) -> dict[str, EngineCheck]:
    often = 0.2 if sys.stderr.isatty() else 10
    with tqdm(total=limit, desc=str(version), unit="row", file=sys.stderr, mininterval=often) as bar:
        return engine_agreement.compare_engines(version, products, least=limit, progress=bar.update)


def _table(checks: dict[ModelVersion, dict[str, EngineCheck]]) -> str:
    lines = [f"{'version':30} {'engine':18} {'rows':>7} {'agreement':>10} {'accuracy':>9} {'reference':>9}"]
    for version, found in checks.items():
        for name, check in found.items():
            verdict = "passed" if check.passed else "failed"
            if check.n < MIN_ROWS:
                verdict = f"not stored: needs {MIN_ROWS:,} products"
            lines.append(
                f"{version!s:30} {name:18} {check.n:7,} {100 * check.agreement:9.2f}% {100 * check.accuracy:8.2f}% "
                f"{100 * check.reference_accuracy:8.2f}%  {verdict}"
            )
        if not found:
            lines.append(f"{version!s:30} nothing to compare, or no product that it can read")
    return "\n".join(lines)
