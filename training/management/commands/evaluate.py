"""manage.py evaluate PATH: measure the live models on labelled products."""

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from classifier.registry import traffic
from classifier.serving.inference import OUTAGES
from common.tables.errors import SourceError
from common.tables.reader import ProductFile
from training.acceptance.live_evaluation import FIGURES, LiveScores, score_products
from training.datasets.category_lookup import CategoryLookup


class Command(BaseCommand):
    help = (
        "Measure the live text model, image model and ensemble on labelled products: a csv (or .csv.gz) with photos "
        "beside it. Nothing is stored. Rows whose category is unknown are counted and left out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, help="a csv file, or a folder with a products.csv")
        parser.add_argument("--category-column", metavar="NAME", help="the column of the category")
        parser.add_argument(
            "--map", type=Path, metavar="FILE", help="a csv: the source's name, a category's slug or name"
        )
        parser.add_argument(
            "--category-level", type=int, metavar="N",
            help="take this level of categories that are paths (A > B): 1 is the first, -1 the last",
        )  # fmt: skip
        parser.add_argument("--encoding", default="", metavar="NAME", help="the file's encoding, where it isn't UTF-8")
        parser.add_argument("--limit", type=int, metavar="N", help="take the first N rows only")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(
        self,
        *,
        path: Path,
        category_column: str | None,
        category_level: int | None,
        map: Path | None,
        encoding: str,
        limit: int | None,
        **options: Any,
    ) -> None:
        if limit is not None and limit < 1:
            raise CommandError("--limit must be at least 1.")
        try:
            columns = {"category": category_column} if category_column else {}
            products = ProductFile(path, columns, encoding=encoding)
            categories = CategoryLookup(map=map, level=category_level or None, encoding=encoding)
            total = products.rows if limit is None else min(products.rows, limit)
            often = 0.2 if sys.stderr.isatty() else 10
            bar = tqdm(total=total, desc=products.name, unit="row", file=sys.stderr, mininterval=often)
            with products, bar:
                scores = score_products(products, categories=categories, limit=limit, progress=bar.update)
        except SourceError as error:
            raise CommandError(str(error)) from error
        except OUTAGES as error:
            raise CommandError(f"The models can't answer: {error}") from error
        if map and not categories.mapped:
            self.stderr.write(f"The map {map} matches no category of this file. Check the names in its first column.")
        self.stdout.write(json.dumps(scores.to_json()) if options["json"] else _table(scores))


def _table(scores: LiveScores) -> str:
    heads = {"accuracy": "accuracy", "top5": "top 5", "macro_f1": "macro F1", "log_loss": "log-loss", "ece": "ECE"}
    lines = [f"{'':10} {'rows':>8} " + " ".join(f"{heads[name]:>9}" for name in FIGURES)]
    for name, figures in scores.views.items():
        if figures is None:
            lines.append(f"{name:10} {0:8,}  no row that it can read")
            continue
        cells = [f"{figures[f]:9.3f}" if f == "log_loss" else f"{100 * figures[f]:8.1f}%" for f in FIGURES]
        lines.append(f"{name:10} {figures['n']:8,} " + " ".join(cells))
    lines += [
        "",
        "Live: "
        + ", ".join(str(variant.version) for both in traffic.live_variants_by_modality().values() for variant in both),
    ]
    for what, counts in (("Left out", scores.skipped), ("Photos not used", scores.without_photo)):
        if counts:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())
            lines.append(f"{what}: {counts.total():,} ({reasons})")
    return "\n".join(lines)
