"""Real products that the starter models were not trained with, and what the starters say of them.

Computed once, some minutes, and kept in the temporary folder for the next run.
"""

import csv
import gzip
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from progress import say, track

ROOT = Path(__file__).resolve().parent.parent
STARTER = ROOT / "classifier" / "starter"
BATCH = 32

Row = Mapping[str, str]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answered:
    """Probabilities of both models and their ensemble (n, classes) float32, and the category that each was listed in.

    `truth` (n,) int64 is the source's own label: of gumtree_listings, what a private seller chose, slips included.
    """

    text: Array
    image: Array
    ensemble: Array
    truth: npt.NDArray[np.int64]
    labels: list[str]
    source: str


def made_up(products: int = 2_000, classes: int = 18) -> Answered:
    """Return made-up products: two models that see the truth through noise.

    Each category is like another one in 85 of 100 products, and like a second one in the rest: of real products the
    commonest second-likeliest category is within reach in about four of five.
    """
    rng = np.random.default_rng(18)
    truth = rng.integers(0, classes, products)
    alike = (truth + rng.choice([1, 2], products, p=[0.85, 0.15])) % classes
    hidden = rng.normal(0, 1.5, (products, classes))
    hidden[np.arange(products), alike] += 2.0 + rng.exponential(2.0, products)
    hidden[np.arange(products), truth] += 7.0
    text, image = (_softmax(hidden + rng.normal(0, noise, hidden.shape)) for noise in (1.0, 2.0))
    pool = np.sqrt(text * image)
    ensemble = (pool / pool.sum(axis=1, keepdims=True)).astype(np.float32)
    return Answered(text, image, ensemble, truth, [f"category {number}" for number in range(classes)], "made-up")


def answered(data: Path) -> Answered:
    """Return every product in `data` with a title, a photograph and a category that fell to no training part.

    A product counts as held back when the split sends it and all that are near to it to validation or test.
    """
    seal = hashlib.sha256((STARTER / "ensemble.json").read_bytes() + str(data.resolve()).encode()).hexdigest()[:16]
    cache = Path(tempfile.gettempdir()) / f"aisle-answered-{seal}.npz"
    if not cache.is_file():
        _compute(data, cache)
    with np.load(cache) as kept:
        arrays = {name: kept[name] for name in ("text", "image", "ensemble", "truth")}
        return Answered(**arrays, labels=[str(label) for label in kept["labels"]], source="real")


def _compute(data: Path, cache: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from classifier.ensemble import Rule, align, combine
    from classifier.image import ImageModel
    from classifier.text import TextModel

    text, image = TextModel.load(STARTER / "text"), ImageModel.load(STARTER / "image")
    slugs = _slugs()
    rows = held_back(list(read(data)))
    say(f"{len(rows)} products that no starter was trained with")
    answers: dict[str, list[Any]] = {"text": [], "image": []}
    for start in track(range(0, len(rows), BATCH), "Asking the starters"):
        batch = rows[start : start + BATCH]
        said = text.predict([row["title"] for _, row in batch], [row["description"] for _, row in batch])
        answers["text"].append(align(said.probabilities, text.labels, list(slugs.values())))
        seen = image.predict([photo(table.parent, row) for table, row in batch])
        answers["image"].append(align(seen.probabilities, image.labels, list(slugs.values())))
    both = {side: np.concatenate(parts) for side, parts in answers.items()}
    fitted = json.loads((STARTER / "ensemble.json").read_text())
    rule = Rule.from_json(fitted["kind"], fitted["parameters"], text=1, image=1)
    labels = list(slugs.values())
    truth = [labels.index(slugs[row["mapped18"]]) for _, row in rows]
    np.savez(cache, **both, ensemble=combine(both["text"], both["image"], rule, labels), truth=truth, labels=labels)


def read(data: Path) -> Iterator[tuple[Path, Row]]:
    for table in sorted(data.glob("*/products.csv*")):
        raw = table.read_bytes()
        text = gzip.decompress(raw) if table.suffix == ".gz" else raw
        for row in csv.DictReader(io.StringIO(text.decode(), newline="")):
            if row["title"] and row["mapped18"]:
                yield table, row


def held_back(rows: Sequence[tuple[Path, Row]]) -> list[tuple[Path, Row]]:
    from training import splits

    near, kept = splits.Near(), []
    for table, row in rows:
        words = splits.title_words(row["title"])
        key = splits.part_key(words, source=table.parent.name, group="", photo_digest="", external_id=row["id"])
        part = splits.part(key)
        bands = splits.bands(words)
        near.add(words, bands, part)
        if part != splits.TRAIN and row["image"] and row.get("shard"):
            kept.append((table, row, words, bands))
    return [(table, row) for table, row, words, bands in kept if splits.TRAIN not in near.parts(words, bands)]


def photo(folder: Path, row: Row) -> Any:
    from PIL import Image

    with zipfile.ZipFile(folder / row["shard"]) as archive:
        return Image.open(io.BytesIO(archive.read(row["image"]))).convert("RGB")


def _softmax(scores: npt.NDArray[np.float64]) -> Array:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)


def _slugs() -> dict[str, str]:
    categories = json.loads((ROOT / "classifier" / "categories.json").read_text())
    return {category["name"]: slug for slug, category in categories.items()}
