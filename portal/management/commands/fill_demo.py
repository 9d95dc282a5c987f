"""manage.py fill_demo: fill an empty installation with made-up shops and two weeks of data."""

import io
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from portal.demo.listings import Progress
from portal.models import Product

PRODUCTS = 2_000
MARKER = "demo.json"  # in AISLE_HOME, once the demo is complete
LINE_SECONDS = 10.0


class Command(BaseCommand):
    help = (
        "Fill an empty installation with made-up shops, products, answers and reviews of two weeks, so that every page "
        "shows something. Refuses where products are listed already. Running it again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--products", type=int, default=PRODUCTS, help=f"about how many (default: {PRODUCTS:,})")

    def handle(self, *, products: int, **options: Any) -> None:
        from portal.demo.filling import Filling

        if settings.PRODUCTION:
            raise CommandError("This is a production installation. The demo needs one of its own: run make demo.")
        marker = Path(settings.AISLE_HOME) / MARKER
        if marker.exists():
            self._say_its_age(marker)
            return
        if Product.objects.exists():
            raise CommandError(
                "Products are listed here already, so the demo is not filled in. If an earlier filling was "
                f"interrupted, delete {settings.AISLE_HOME} and run the command again."
            )
        call_command("prepare", verbosity=0, demo=True, stdout=io.StringIO())
        self.stdout.write("Filling the demo: some minutes, once.")
        start = time.monotonic()
        # Damaged photos and a failing run belong to the demo: what is logged of them would only worry the reader.
        logging.disable(logging.WARNING)
        try:
            Filling(products=products, now=timezone.now(), stage=self._stage).fill()
        finally:
            logging.disable(logging.NOTSET)
        count = Product.objects.count()
        marker.write_text(json.dumps({"filled_at": timezone.now().isoformat(), "products": count}))
        self.stdout.write(f"The demo has {count:,} products. Filling took {time.monotonic() - start:.0f} s.")

    def _say_its_age(self, marker: Path) -> None:
        days = (timezone.now() - datetime.fromisoformat(json.loads(marker.read_text())["filled_at"])).days
        if days:
            self.stdout.write(
                f"The demo was filled {days} days ago, and its two weeks end there. For a new one, delete "
                f"{settings.AISLE_HOME} and run the command again."
            )

    @contextmanager
    def _stage(self, name: str, total: int) -> Iterator[Progress]:
        """Print a line when a stage begins, one now and then, and how long it took."""
        start = last = time.monotonic()
        done = 0

        def progress(count: int) -> None:
            nonlocal done, last
            done += count
            if time.monotonic() - last >= LINE_SECONDS:
                last = time.monotonic()
                self.stdout.write(f"  {name}: {done:,} of {total:,}" if total else f"  {name}: {done:,}")
                self.stdout.flush()

        self.stdout.write(f"{name} ...")
        self.stdout.flush()
        yield progress
        self.stdout.write(f"  {time.monotonic() - start:.0f} s")
        self.stdout.flush()
