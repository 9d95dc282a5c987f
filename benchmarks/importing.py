"""Whether a large import stays flat in memory: `import_products` over made-up products with photographs in zip shards.

Prints rows per second and the process's memory after each tenth, and imports the same again. See benchmarks/README.md.
"""

import argparse
import csv
import io
import json
import os
import random
import shutil
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from items import PRODUCTS, VARIANTS
from machine import machine
from PIL import Image
from progress import say, track
from stack import set_up_home

SIDE = 320  # pixels of a photograph
SHARD = 3_000  # photographs in a zip


def main() -> None:
    options = parse()
    set_up_home()
    import django

    django.setup()
    from django.core.management import call_command

    from common.tables.product_files import ProductFile
    from training.datasets.importing import CategoryLookup, import_products
    from training.models import Example

    call_command("migrate", verbosity=0)
    folder = Path(tempfile.mkdtemp(prefix="aisle-import-"))
    try:
        write_products(folder, rows=options.rows, photos=options.photos)
        curve = Memory(options.rows)
        first = timed(lambda: run(import_products, ProductFile, CategoryLookup, folder, curve))
        again = timed(lambda: run(import_products, ProductFile, CategoryLookup, folder, Memory(options.rows)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {
        "rows": options.rows,
        "photos": options.photos,
        "examples": Example.objects.count(),
        "rows_per_second": round(options.rows / first, 1),
        "seconds": round(first, 1),
        "seconds_again": round(again, 1),
        "memory_mb": curve.megabytes,
        "last_vs_first_tenth": round(curve.megabytes[-1] / curve.megabytes[0], 2),
    } | machine()
    if options.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name}: {value}" for name, value in figures.items()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=46_000)
    parser.add_argument("--photos", type=int, default=42_000, help="how many rows have a photograph")
    parser.add_argument("--quick", action="store_true", help="a twentieth of it: about a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.photos = options.rows // 20, options.photos // 20
    return options


class Memory:
    """This process's resident memory, looked at after each tenth of the rows."""

    def __init__(self, rows: int) -> None:
        self.rows, self.done = rows, 0
        self.megabytes: list[float] = []

    def update(self, rows: int) -> None:
        self.done += rows
        while len(self.megabytes) < 10 * self.done // self.rows:
            self.megabytes.append(round(psutil.Process().memory_info().rss / 1e6, 1))


def run(import_products: Any, product_file: Any, categories: Any, folder: Path, curve: Memory) -> None:
    with product_file(folder, {}) as products:
        import_products(
            products=products, source="made-up", categories=categories(creates=True), errors=None,
            progress=curve.update,
        )  # fmt: skip


def timed(work: Any) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def write_products(folder: Path, *, rows: int, photos: int) -> None:
    """Write products.csv and the shards; no two photographs and no two titles are the same."""
    chance = random.Random(18)  # noqa: S311
    noise = np.random.default_rng(18)
    say(f"Making {rows} products")
    shard: zipfile.ZipFile | None = None
    with (folder / "products.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "title", "description", "category", "image", "shard"])
        for number in track(range(rows), "Products"):
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
                shard.writestr(image, photo(noise))
            words = " ".join("".join(chance.choices("abcdefghiklmnoprstuvw", k=6)) for _ in range(6))
            title = f"{words} {title}{chance.choice(VARIANTS)}"
            table.writerow([number, title, description, f"Shelf {kind // 2}", image, archive])
    if shard:
        shard.close()


def photo(noise: np.random.Generator) -> bytes:
    image = Image.fromarray(noise.integers(0, 255, (20, 20, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
