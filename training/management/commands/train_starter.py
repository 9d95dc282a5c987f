"""manage.py train_starter DATA [--out DIR] [--cache DIR]: train the starter models anew."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

ROOT = Path(__file__).resolve().parents[3]


class Command(BaseCommand):
    help = "Train the starter text and image models on folders of labelled products; print every figure."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("data", type=Path, help="folder with one folder a data set (products.csv, zips)")
        parser.add_argument("--out", type=Path, default=ROOT / "classifier" / "starter")
        parser.add_argument("--cache", type=Path, default=ROOT / "var" / "embeddings")

    def handle(self, *args: Any, **options: Any) -> None:
        # Here, not above: "manage.py help" should not wait for torch.
        from training.starter import train_starter

        try:
            figures = train_starter(options["data"], options["out"], cache=options["cache"], progress=self.report)
        except FileNotFoundError as error:
            raise CommandError(str(error)) from error
        self.stderr.write("")
        self.stdout.write(figures)

    def report(self, what: str, done: int, total: int) -> None:
        self.stderr.write(f"\r{what}: {done} of {total}      ", ending="")
        self.stderr.flush()
