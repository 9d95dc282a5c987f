"""Measure how long each recipe takes to train a whole model, from which the form to start a run estimates times.

Prints seconds for each product and the ratio to the recipe `head` of the same modality, fitted in the same run on the
same products. See benchmarks/README.md.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

import django

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.products import (
    ProductPhotos,
    data_folder,
    fold_name,
    product_tables,
    read_rows,
    shard_of,
    slugs_by_name,
)
from benchmarks.harness.progress import log_step
from benchmarks.harness.report import print_markdown

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from common.photos import copies
from training.datasets import splits
from training.datasets.corpus import CorpusRow, write_corpus
from training.fit import recipes
from training.fit.job import Job
from training.fit.progress import Progress
from training.fit.run import fit_model

BASELINE = "head"
QUICK = {"text": 300, "image": 100}
WHOLE = {"text": 3_000, "image": 600}
EVERY = 7  # of a set's rows one in so many: they are sorted by category


def measure_recipes(options: Options) -> Figures:
    """Return how long each recipe takes for a product, by modality."""
    django.setup()
    from training.runs.estimates import machine_speed

    data = data_folder(options.data)
    tables = product_tables(data)
    if not tables:
        sys.exit(f"There is no product data in {data}: name a folder of sets with --data.")
    counts = QUICK if options.quick else WHOLE
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for modality, read in (("text", titles_of), ("image", photos_of)):
            products = take_turns([read(table, ProductPhotos(data)) for table in tables])
            chosen = list(make_learnable(islice(products, counts[modality])))
            write_corpus(chosen, Path(folder) / modality, exclusions={})
            figures[modality] = time_recipes(modality, Path(folder), len(chosen))
    return figures | {"multiplies_gflops": machine_speed() / 1e9}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --data."""
    parser.add_argument("--data", type=Path, help="folder of product data (default: AISLE_DATA or ../shared/data)")


def make_learnable(products: Iterable[CorpusRow]) -> Iterator[CorpusRow]:
    """Yield the products, the first of each category in the training part."""
    seen: set[str] = set()
    for product in products:
        yield product if product.label in seen else replace(product, split=splits.TRAIN)
        seen.add(product.label)


def take_turns(sets: Sequence[Iterator[CorpusRow]]) -> Iterator[CorpusRow]:
    """Yield one product of each set after the other, until all are at their end."""
    for products in zip_longest(*sets):
        yield from (product for product in products if product)


def titles_of(table: Path, _files: ProductPhotos) -> Iterator[CorpusRow]:
    """Yield titles of a set."""
    for slug, row in labelled_rows(table):
        if row.get("title"):
            key = f"{table.parent.name}-{row['id']}"
            yield CorpusRow(table.parent.name, key, row["title"], "", slug, None, "", splits.split_of_key(key))


def photos_of(table: Path, files: ProductPhotos) -> Iterator[CorpusRow]:
    """Yield photographs of a set, as they are stored for the models."""
    for slug, row in labelled_rows(table):
        if row.get("shard") and row.get("image"):
            small = copies.make_copies(files.read(shard_of(table, row), row["image"]))[1]
            key = f"{table.parent.name}-{row['id']}"
            yield CorpusRow(table.parent.name, key, "", "", slug, small, key, splits.split_of_key(key))


def labelled_rows(table: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield one in so many rows that have a category of Aisle's, with its slug."""
    known = slugs_by_name()
    for row in islice(read_rows(table), 0, None, EVERY):
        if slug := known.get(fold_name(row.get("mapped18") or "")):
            yield slug, row


def time_recipes(modality: str, folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Return for each recipe the seconds for each product, and the ratio to the baseline."""
    corpus = folder / modality
    classes = json.loads((corpus / "manifest.json").read_text())["classes"]
    seconds: dict[str, float] = {}
    for name in (known for kind, known in recipes.NAMED if kind == modality):
        log_step(f"{modality}: {name}")
        recipe = recipes.named_recipe(modality, name)
        workdir = Path(tempfile.mkdtemp(dir=folder))
        labels = [label for label, parts in classes.items() if parts["train"] >= recipe.least_rows]
        job = {"modality": modality, "recipe": recipe.to_json(), "corpus": str(corpus), "labels": labels}
        (workdir / "job.json").write_text(json.dumps(job))
        start = time.monotonic()
        fit_model(Job.read(workdir), Progress(workdir))
        seconds[name] = (time.monotonic() - start) / count
    return {
        name: {"products": count, "seconds_per_product": value, "ratio": value / seconds[BASELINE]}
        for name, value in seconds.items()
    }


def print_report(figures: Figures) -> None:
    """Print a row for each recipe."""
    rows = []
    for modality in QUICK:
        for name, row in figures[modality].items():
            cells = (f"{row['products']}", f"{1000 * row['seconds_per_product']:.1f}", f"{row['ratio']:.1f}")
            rows.append((modality, name, *cells))
    print_markdown(("model", "recipe", "products", "ms a product", "ratio to head"), rows)
    print(f"\nThe machine multiplies matrices at {figures['multiplies_gflops']:.1f} GFLOP/s.")


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_recipes, print_report=print_report, add_options=add_options, quick="few products: some minutes"
    )
