"""manage.py measure_versions: answer the reference set with model versions, so that they can be compared."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from classifier.ml.artifact import ArtifactError
from classifier.models import ModelVersion, Variant
from classifier.registry import versions
from common.object_storage import StorageDown
from training.acceptance import reference_answers
from training.datasets import reference_set


class Command(BaseCommand):
    help = (
        "Answer the reference set with model versions, so that any two of them can be compared on the same products. "
        "Training runs do it for the candidate and the champion; the command is for other versions."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", nargs="*", help="an id, name or checksum (default: all deployed versions)")

    def handle(self, *, version: list[str], **options: Any) -> None:
        try:
            chosen = [versions.find_version(name) for name in version]
            chosen = chosen or [variant.version for variant in Variant.objects.all()]
            reference_set.refresh_reference_set()
            for each in chosen:
                self._measure(each)
        except (ArtifactError, StorageDown, ModelVersion.DoesNotExist) as error:
            raise CommandError(str(error)) from error

    def _measure(self, version: ModelVersion) -> None:
        products = reference_answers.measuring_products(version.modality)
        often = 0.2 if sys.stderr.isatty() else 10
        with tqdm(desc=str(version), unit="row", total=len(products), file=sys.stderr, mininterval=often) as bar:
            answers = [
                each
                for each in reference_answers.measure_version(version, products, bar.update)
                if each.rank is not None
            ]
        if not answers:
            raise CommandError(f"{version}: there is no reference product that it can read.")
        right = sum(answer.rank == 0 for answer in answers)
        self.stdout.write(f"{version}: right on {right:,} of {len(answers):,} reference products.")
