"""manage.py learn_unusual: fit the detectors that flag products unlike what a version was trained on."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from classifier.ml.artifact import ArtifactError
from classifier.models import ModelVersion, Variant
from classifier.registry import detector_store, versions
from common.object_storage import StorageDown
from training.acceptance import detector_fitting
from training.datasets import labelled_products


class Command(BaseCommand):
    help = (
        "Fit on the imported examples what is usual for a model version, so that it can flag unusual products. "
        "Training runs do this; the command is for versions without a detector."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", nargs="*", help="an id, name or checksum (default: all deployed versions)")
        parser.add_argument(
            "--out", type=Path, metavar="FOLDER", help="write the detectors there too, a file for each version"
        )

    def handle(self, *, version: list[str], out: Path | None, **options: Any) -> None:
        try:
            chosen = [versions.find_version(name) for name in version]
            for each in chosen or [variant.version for variant in Variant.objects.all()]:
                self._learn(each, out)
        except (ArtifactError, StorageDown, ModelVersion.DoesNotExist) as error:
            raise CommandError(str(error)) from error

    def _learn(self, version: ModelVersion, out: Path | None) -> None:
        known, held_back = detector_fitting.sample_products(
            partial(labelled_products.stored_products, version.modality)
        )
        often = 0.2 if sys.stderr.isatty() else 10
        with tqdm(desc=str(version), unit="row", file=sys.stderr, mininterval=often) as bar:
            found = detector_fitting.fit_detector(version, known, held_back, progress=bar.update)
        if found is None:
            raise CommandError(
                f"{version}: too few imported examples that it can read. It needs {detector_fitting.MIN_ROWS} that "
                "were trained on and as many that were held back."
            )
        figures = found.figures
        self.stdout.write(
            f"{version}: learnt from {figures['learnt_from']:,} products; flags {figures['flagged']:.1%} of "
            f"{figures['held_back']:,} held-back ones."
        )
        if out:
            out.mkdir(parents=True, exist_ok=True)
            detector_store.export_detector(version, out / detector_store.detector_file_name(version))
