"""How long each recipe takes to train a model, whole: what the form to start a run estimates times from.

Prints seconds for each product and the ratio to the recipe `head` of the same modality, fitted in the same run on the
same products. See benchmarks/README.md.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import django
from machine import machine
from products import Photos, data_folder, folded, rows, shard_of, slugs, tables
from progress import say

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

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


def main() -> None:
    options = parse()
    django.setup()
    from training.runs.estimates import machine_speed

    load = os.getloadavg()[0]
    data = data_folder(options.data)
    if not tables(data):
        sys.exit(f"There is no product data in {data}: name a folder of sets with --data.")
    counts = QUICK if options.quick else WHOLE
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for modality, read in (("text", texts), ("image", photos)):
            products = in_turn([read(table, Photos(data)) for table in tables(data)])
            chosen = list(learnable(islice(products, counts[modality])))
            write_corpus(chosen, Path(folder) / modality, exclusions={})
            figures[modality] = measure(modality, Path(folder), len(chosen))
    report(figures, {"load_at_start": round(load, 2), "multiplies_gflops": machine_speed() / 1e9} | machine(), options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of product data (default: AISLE_DATA or ../shared/data)")
    parser.add_argument("--quick", action="store_true", help="few products: some minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    return parser.parse_args()


def learnable(products: Iterable[CorpusRow]) -> Iterator[CorpusRow]:
    """Yield the products, the first of each category in the training part."""
    seen: set[str] = set()
    for product in products:
        yield product if product.label in seen else replace(product, split=splits.TRAIN)
        seen.add(product.label)


def in_turn(sets: Sequence[Iterator[CorpusRow]]) -> Iterator[CorpusRow]:
    """Yield one product of each set after the other, until all are at their end."""
    for products in zip_longest(*sets):
        yield from (product for product in products if product)


def texts(table: Path, _files: Photos) -> Iterator[CorpusRow]:
    """Yield titles of a set."""
    for slug, row in labelled(table):
        if row.get("title"):
            key = f"{table.parent.name}-{row['id']}"
            yield CorpusRow(table.parent.name, key, row["title"], "", slug, None, "", splits.split_of_key(key))


def photos(table: Path, files: Photos) -> Iterator[CorpusRow]:
    """Yield photographs of a set, as they are stored for the models."""
    for slug, row in labelled(table):
        if row.get("shard") and row.get("image"):
            small = copies.make_copies(files.read(shard_of(table, row), row["image"]))[1]
            key = f"{table.parent.name}-{row['id']}"
            yield CorpusRow(table.parent.name, key, "", "", slug, small, key, splits.split_of_key(key))


def labelled(table: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield one in so many rows that have a category of Aisle's, with its slug."""
    known = slugs()
    for row in islice(rows(table), 0, None, EVERY):
        if slug := known.get(folded(row.get("mapped18") or "")):
            yield slug, row


def measure(modality: str, folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Return for each recipe the seconds for each product, and the ratio to the baseline."""
    corpus = folder / modality
    classes = json.loads((corpus / "manifest.json").read_text())["classes"]
    seconds: dict[str, float] = {}
    for name in (known for kind, known in recipes.NAMED if kind == modality):
        say(f"{modality}: {name}")
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


def report(figures: dict[str, Any], about: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(figures | about))
        return
    out = io.StringIO()
    print("| model | recipe | products | ms a product | ratio to head |\n|---|---|---:|---:|---:|", file=out)
    for modality, found in figures.items():
        for name, row in found.items():
            cells = f"{row['products']} | {1000 * row['seconds_per_product']:.1f} | {row['ratio']:.1f}"
            print(f"| {modality} | {name} | {cells} |", file=out)
    print(out.getvalue() + ", ".join(f"{name}: {value}" for name, value in about.items()))


if __name__ == "__main__":
    main()
