"""Measure the speed and memory of a large import of made-up products with photographs in zip shards.

Prints rows per second and the process's memory after each tenth, and imports the same again. See benchmarks/README.md.
"""

import argparse
import csv
import io
import os
import random
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.items import PRODUCTS, VARIANTS
from benchmarks.harness.progress import log_step, track_progress
from benchmarks.harness.stack import set_up_home

SIDE = 320  # pixels of a photograph
SHARD = 3_000  # photographs in a zip


def measure_import(options: Options) -> Figures:
    """Return rows per second and the process's memory after each tenth of a large import."""
    share = 20 if options.quick else 1
    rows, photos = options.rows // share, options.photos // share
    set_up_home()
    import django

    django.setup()
    from django.core.management import call_command

    from training.models import Example

    call_command("migrate", verbosity=0)
    with tempfile.TemporaryDirectory(prefix="aisle-import-") as folder:
        write_products(Path(folder), rows=rows, photos=photos)
        curve = MemoryCurve(rows)
        first = time_import(Path(folder), curve)
        again = time_import(Path(folder), MemoryCurve(rows))
    return {
        "rows": rows,
        "photos": photos,
        "examples": Example.objects.count(),
        "rows_per_second": round(rows / first, 1),
        "seconds": round(first, 1),
        "seconds_again": round(again, 1),
        "memory_mb": curve.megabytes,
        "last_vs_first_tenth": round(curve.megabytes[-1] / curve.megabytes[0], 2),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --rows and --photos."""
    parser.add_argument("--rows", type=int, default=46_000)
    parser.add_argument("--photos", type=int, default=42_000, help="how many rows have a photograph")


class MemoryCurve:
    """This process's resident memory after each tenth of the rows."""

    def __init__(self, rows: int) -> None:
        self.rows, self.done = rows, 0
        self.megabytes: list[float] = []

    def update(self, rows: int) -> None:
        """Count rows that were imported."""
        self.done += rows
        while len(self.megabytes) < 10 * self.done // self.rows:
            self.megabytes.append(round(psutil.Process().memory_info().rss / 1e6, 1))


def time_import(folder: Path, curve: MemoryCurve) -> float:
    """Import a folder of products; return the seconds it took."""
    from common.tables.reader import ProductFile
    from training.datasets.category_lookup import CategoryLookup
    from training.datasets.importing import import_products

    start = time.monotonic()
    with ProductFile(folder, {}) as products:
        import_products(
            products=products, source="made-up", categories=CategoryLookup(creates=True), errors=None,
            progress=curve.update,
        )  # fmt: skip
    return time.monotonic() - start


def write_products(folder: Path, *, rows: int, photos: int) -> None:
    """Write products.csv and the shards; no two photographs and no two titles are the same."""
    chance = random.Random(18)  # noqa: S311
    noise = np.random.default_rng(18)
    log_step(f"Making {rows} products")
    shard: zipfile.ZipFile | None = None
    with (folder / "products.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "title", "description", "category", "image", "shard"])
        for number in track_progress(range(rows), "Products"):
            kind = number % len(PRODUCTS)
            title, description = PRODUCTS[kind]
            image = archive = ""
            if number < photos:
                image, archive = f"{number}.jpg", f"images-{number // SHARD:03}.zip"
                if number % SHARD == 0:
                    if shard:
                        shard.close()
                    shard = zipfile.ZipFile(folder / archive, "w", zipfile.ZIP_STORED)
                assert shard is not None
                shard.writestr(image, draw_noise(noise))
            words = " ".join("".join(chance.choices("abcdefghiklmnoprstuvw", k=6)) for _ in range(6))
            title = f"{words} {title}{chance.choice(VARIANTS)}"
            table.writerow([number, title, description, f"Shelf {kind // 2}", image, archive])
    if shard:
        shard.close()


def draw_noise(noise: np.random.Generator) -> bytes:
    image = Image.fromarray(noise.integers(0, 255, (20, 20, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    run_benchmark(__doc__, measure_import, add_options=add_options, quick="a twentieth of it: about a minute")
