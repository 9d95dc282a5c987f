"""manage.py train_starter DATA: train the starter models that come with Aisle, with the commands that users have."""

import json
import shutil
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from classifier.models import EnsembleRule, Modality
from classifier.registry import artifact_store, traffic
from classifier.services import STARTER, STARTER_DETECTORS, load_categories
from training.fit import recipes


class Command(BaseCommand):
    help = (
        "Import every folder under DATA by its column mapped18, retrain both models, continue the text model with "
        "everyday titles, and write them to the folder of the starters. Use an AISLE_HOME of its own: it trains on "
        "everything that is imported there."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "data", type=Path, help="a folder with a folder for each data set (products.csv, zip archives)"
        )
        parser.add_argument("--out", type=Path, default=STARTER)
        parser.add_argument("--column", default="mapped18", help="the column of the category")
        parser.add_argument("--recipe", default=recipes.STARTER)

    def handle(self, *, data: Path, out: Path, column: str, recipe: str, **options: Any) -> None:
        folders = sorted(path.parent for path in data.glob("*/products.csv*"))
        if not folders:
            raise CommandError(f"{data} holds no folder with a products.csv.")
        call_command("migrate", verbosity=0)
        load_categories()
        call_command("import_products", *map(str, folders), category_column=column, stdout=self.stdout)
        call_command("retrain", "all", recipe=recipe, stdout=self.stdout)
        call_command("retrain", "text", recipe=recipes.EVERYDAY, start="champion", stdout=self.stdout)
        versions = {modality: traffic.current_champion(modality) for modality in Modality.values}
        for modality, version in versions.items():
            if version is None:
                raise CommandError(f"No {modality} model was deployed.")
            shutil.rmtree(out / modality, ignore_errors=True)
            shutil.copytree(artifact_store.fetch_artifact(version.path, version.checksum), out / modality)
        familiar = STARTER_DETECTORS if out == STARTER else out / STARTER_DETECTORS.name
        shutil.rmtree(familiar, ignore_errors=True)
        call_command("learn_unusual", out=familiar, stdout=self.stdout)
        rule = EnsembleRule.objects.get(text_version=versions["text"], image_version=versions["image"])
        content = {modality: version.checksum for modality, version in versions.items() if version}
        content |= {"kind": rule.kind, "parameters": rule.parameters, "metrics": rule.metrics}
        (out / "ensemble.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        self.stdout.write(f"The starters are in {out}: {size / 1e6:.1f} MB.")
