"""manage.py describe_dataset [DATASET]: describe a dataset, as tables here and as a page in the admin."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from common.object_storage import StorageDown
from training.datasets.corpus import SPLITS, CorpusError
from training.datasets.description import describe_dataset
from training.datasets.manifest_codes import read_exclusions
from training.datasets.manifest_labels import exclusion_label, warning_text
from training.models import Dataset

SHOWN = 15  # suspicious labels


class Command(BaseCommand):
    help = "Describe a dataset: class balance, text lengths, what is missing or left out, suspected label errors."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", nargs="?", default="", help="its number or checksum; default: the newest")
        parser.add_argument("--json", action="store_true", help="print everything as JSON")

    def handle(self, *, dataset: str, json: bool, **options: Any) -> None:
        found = _find(dataset)
        try:
            description = describe_dataset(found, say=lambda stage: self.stderr.write(f"{stage} ..."))
        except (CorpusError, StorageDown) as error:
            raise CommandError(str(error)) from error
        if json:
            self.stdout.write(_json(found))
        else:
            self.stdout.write("\n".join(_tables(found, description)))


def _find(name: str) -> Dataset:
    datasets = Dataset.objects.all()
    if not name:
        found = datasets.first()
        if found is None:
            raise CommandError("There is no dataset yet. Make one: manage.py make_dataset")
        return found
    # A number of eight digits or more is the beginning of a checksum.
    wanted = (
        datasets.filter(pk=int(name))
        if name.isdecimal() and len(name) < 8
        else datasets.filter(checksum__startswith=name)
    )
    rows = list(wanted[:2])
    if len(rows) != 1:
        raise CommandError(f"There is no dataset {name}." if not rows else f"Several checksums begin with {name}.")
    return rows[0]


def _json(dataset: Dataset) -> str:
    return json.dumps(
        {
            "dataset": dataset.pk,
            "checksum": dataset.checksum,
            "manifest": dataset.manifest,
            **(dataset.description or {}),
        },
        indent=1,
        ensure_ascii=False,
    )


def _tables(dataset: Dataset, description: dict[str, Any]) -> list[str]:
    manifest = dataset.manifest
    total = sum(manifest["splits"][split]["rows"] for split in SPLITS)
    lines = [f"{dataset}, checksum {dataset.checksum[:12]}: {total:,} rows", "", "Categories"]
    rows = sorted(manifest["classes"].items(), key=lambda item: -sum(item[1].values()))
    most = max(sum(counts.values()) for counts in manifest["classes"].values())
    lines += _table(
        ["", *SPLITS, "all", "share", ""],
        [
            [slug, *(f"{counts[split]:,}" for split in SPLITS), f"{(count := sum(counts.values())):,}",
             f"{count / total:.1%}", "#" * max(1, round(24 * count / most))]
            for slug, counts in rows
        ],
    )  # fmt: skip
    lines += ["", "Words"]
    texts = description["texts"]
    lines += _table(
        ["", *(f"{p}%" if p != "100" else "longest" for p in texts["title"]["percentiles"])],
        [[name, *(f"{value:,.0f}" for value in texts[name]["percentiles"].values())] for name in texts],
    )
    lines += ["", "Missing"]
    lines += _table(
        ["", "rows", "share"], [[n, f"{c:,}", f"{c / total:.1%}"] for n, c in description["missing"].items()]
    )
    lines += ["", "Sources"]
    lines += _table(
        ["", "rows", "with text", "with photo"],
        [
            [name, *(f"{counts.get(key, 0):,}" for key in ("rows", "with_text", "with_photo"))]
            for name, counts in description["sources"].items()
        ],
    )
    lines += ["", "Left out"]
    lines += _table(
        ["", "rows"], [[exclusion_label(code), f"{count:,}"] for code, count in read_exclusions(manifest).items()]
    ) or ["  -"]
    lines += [f"  Warning: {warning_text(warning)}" for warning in manifest["warnings"]]
    suspicious = description["suspicious"]
    lines += [
        "",
        f"Suspected label errors: {suspicious['found']:,} of {suspicious['checked']:,} checked rows. "
        f"{suspicious['note']}".rstrip(),
    ]
    lines += _table(
        ["given", "", "suggested", "", "title"],
        [
            [
                row["given"],
                f"{row['given_probability']:.0%}",
                row["suggested"],
                f"{row['suggested_probability']:.0%}",
                row["title"][:60],
            ]
            for row in suspicious["rows"][:SHOWN]
        ],
        words=(0, 2, 4),
    )  # fmt: skip
    page = reverse("admin:training_dataset_change", args=[dataset.pk])
    return [*lines, "", f"With charts and pictures: {page} in the admin."]


def _table(head: list[str], rows: list[list[str]], words: tuple[int, ...] = (0,)) -> list[str]:
    """Return lines with columns under each other: words to the left, numbers to the right."""
    if not rows:
        return []
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    last = len(head) - 1
    return [
        "  " + "  ".join(
            cell.ljust(width) if column in words or (column == last and cell.startswith("#")) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]  # fmt: skip
