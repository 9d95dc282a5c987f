"""manage.py make_dataset: make an immutable snapshot of the examples, to train on."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from common.object_storage import StorageDown
from training.datasets.corpus import SPLITS, CorpusError
from training.datasets.manifest_codes import read_exclusions
from training.datasets.manifest_labels import exclusion_label, warning_text
from training.datasets.snapshots import find_or_make_dataset
from training.models import Dataset

INTERRUPTED = 130


class Command(BaseCommand):
    help = "Make an immutable snapshot of examples and accepted answers. If nothing has changed, name the latest one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--source", action="append", default=[], metavar="NAME", help="take this source only; may be repeated"
        )

    def handle(self, *, source: list[str], **options: Any) -> None:
        bar = tqdm(desc="dataset", unit="row", file=sys.stderr, mininterval=0.2 if sys.stderr.isatty() else 10)

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            with bar:
                dataset, is_new = find_or_make_dataset(sources=source, progress=progress)
        except (CorpusError, StorageDown) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stderr.write("Stopped. No dataset was made; run the same command again.")
            sys.exit(INTERRUPTED)
        self.stdout.write(summary(dataset))
        if is_new:
            self.stdout.write(f"Made dataset {dataset.pk}. Describe it: manage.py describe_dataset {dataset.pk}")
        else:
            self.stdout.write(
                f"Nothing has changed since dataset {dataset.pk} of {dataset.created_at:%Y-%m-%d %H:%M} UTC."
            )


def summary(dataset: Dataset) -> str:
    manifest = dataset.manifest
    lines = [
        f"{dataset}, checksum {dataset.checksum[:12]}",
        f"  {'':12}{'rows':>10}{'with text':>12}{'with photo':>12}",
    ]
    for split in SPLITS:
        counts = manifest["splits"][split]
        lines.append(f"  {split:12}{counts['rows']:10,}{counts['with_text']:12,}{counts['with_photo']:12,}")
    size = sum(shard["bytes"] for shard in manifest["shards"])
    lines.append(f"  {len(manifest['classes'])} categories, {len(manifest['shards'])} shards, {size / 1e6:,.1f} MB")
    lines.append("  Sources: " + ", ".join(f"{name} ({count:,})" for name, count in manifest["sources"].items()))
    lines += [f"  Left out: {exclusion_label(code)}: {count:,}" for code, count in read_exclusions(manifest).items()]
    lines += [f"  Warning: {warning_text(warning)}" for warning in manifest["warnings"]]
    return "\n".join(lines)
