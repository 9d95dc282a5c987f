"""Read product data, and what all benchmarks take from the starter models.

A folder of product data has one folder a set, with products.csv or products.csv.gz and photographs in zip shards.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image

from benchmarks.harness.processes import ROOT
from classifier.ml.ensemble import Rule

STARTER = ROOT / "classifier" / "starter"
BATCH = 32

Row = Mapping[str, str]


def data_folder(given: Path | None = None) -> Path:
    """Return where product data lies, if there is any: `given`, or AISLE_DATA, or the folder beside the repository."""
    return given or Path(os.environ.get("AISLE_DATA", ROOT.parent / "shared" / "data"))


def cache_folder(given: Path | None = None) -> Path:
    """Return where the starters' answers are kept for the next run."""
    return given or Path(os.environ.get("AISLE_HOME", ROOT / "var")) / "benchmarks"


def cache_key(data: Path | None, version: int) -> str:
    """Return what the starters' answers depend on, as a name. `version`: of how products are chosen and asked."""
    digest = hashlib.sha256(str(version).encode())
    for path in [*sorted(STARTER.glob("*/manifest.json")), STARTER / "ensemble.json"]:
        digest.update(path.read_bytes())
    for table in product_tables(data) if data else ():
        digest.update(f"{table} {table.stat().st_size}".encode())
    return digest.hexdigest()[:12]


def product_tables(data: Path, name: str = "*") -> list[Path]:
    """Return the tables of all sets in a folder, or of the set `name`."""
    return sorted(path for path in data.glob(f"{name}/products.csv*") if path.suffix in (".csv", ".gz"))


def read_rows(table: Path) -> Iterator[Row]:
    """Yield the rows of a table with all of its columns, those that `common.tables` leaves out among them."""
    open_text = gzip.open if table.suffix == ".gz" else open
    with open_text(table, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


class ProductPhotos:
    """Photographs of a folder of product data; a shard that was read from stays open."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.shards: dict[str, zipfile.ZipFile] = {}

    def open(self, shard: str, name: str) -> Image.Image:
        """Return a photograph as it was uploaded. `shard`: its set's folder and the zip file in it."""
        return Image.open(io.BytesIO(self.read(shard, name)))

    def read(self, shard: str, name: str) -> bytes:
        """Return a photograph's file."""
        if shard not in self.shards:
            self.shards[shard] = zipfile.ZipFile(self.data / shard)
        return self.shards[shard].read(name)


def shard_of(table: Path, row: Row) -> str:
    return f"{table.parent.name}/{row['shard']}"


def slugs_by_name() -> dict[str, str]:
    """Return the slug of each of the starters' categories by its name, as `folded` has it."""
    content = json.loads((ROOT / "classifier" / "categories.json").read_text())
    return {fold_name(about["name"]): slug for slug, about in content.items()}


def fold_name(name: str) -> str:
    """Return a name in the spelling by which names are compared."""
    return " ".join(name.split()).casefold()


def starter_rule() -> Rule:
    """Return the rule by which both starters are combined."""
    fitted = json.loads((STARTER / "ensemble.json").read_text())
    return Rule.from_json(fitted["kind"], fitted["parameters"], text=1.0, image=1.0)
