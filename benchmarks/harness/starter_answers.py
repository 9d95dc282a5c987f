"""Compute the starter models' probabilities for real products that they were not trained with.

Computed once, some minutes, and kept in a folder for the next run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.products import (
    BATCH,
    STARTER,
    ProductPhotos,
    Row,
    cache_folder,
    cache_key,
    fold_name,
    product_tables,
    read_rows,
    shard_of,
    slugs_by_name,
    starter_rule,
)
from benchmarks.harness.progress import log_step, track_progress

VERSION = 1  # of what is kept: count it up when this file chooses or computes otherwise

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StarterAnswers:
    """Probabilities of both models and their ensemble (n, classes) float32, and the category that each was listed in.

    `truth` (n,) int64 is the source's own label: of gumtree_listings, what a private seller chose, slips included.
    """

    text: Array
    image: Array
    ensemble: Array
    truth: npt.NDArray[np.int64]
    labels: list[str]
    source: str


def made_up_answers(products: int = 2_000, classes: int = 18) -> StarterAnswers:
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
    return StarterAnswers(text, image, ensemble, truth, [f"category {number}" for number in range(classes)], "made-up")


def starter_answers(data: Path) -> StarterAnswers:
    """Return every product in `data` with a title, a photograph and a category that fell to no training part.

    A product counts as held back when the split sends it and all that are near to it to validation or test.
    """
    cache = cache_folder() / f"answered-{cache_key(data, VERSION)}.npz"
    if not cache.is_file():
        _compute(data, cache)
    with np.load(cache) as kept:
        arrays = {name: kept[name] for name in ("text", "image", "ensemble", "truth")}
        return StarterAnswers(**arrays, labels=[str(label) for label in kept["labels"]], source="real")


def _compute(data: Path, cache: Path) -> None:
    from classifier.ml.ensemble import align_columns, combine_probabilities
    from classifier.ml.image_model import ImageModel
    from classifier.ml.text_model import TextModel

    text, image = TextModel.load(STARTER / "text"), ImageModel.load(STARTER / "image")
    slug, photos = slugs_by_name(), ProductPhotos(data)
    labels = list(slug.values())
    products = held_back_rows(list(labelled_rows(data)))
    log_step(f"{len(products)} products that no starter was trained with")
    answers: dict[str, list[Any]] = {"text": [], "image": []}
    for start in track_progress(range(0, len(products), BATCH), "Asking the starters"):
        batch = products[start : start + BATCH]
        read = text.predict_texts([row["title"] for _, row in batch], [row["description"] for _, row in batch])
        answers["text"].append(align_columns(read.probabilities, text.labels, labels))
        seen = image.predict_images(
            [photos.open(shard_of(table, row), row["image"]).convert("RGB") for table, row in batch]
        )
        answers["image"].append(align_columns(seen.probabilities, image.labels, labels))
    both = {side: np.concatenate(parts) for side, parts in answers.items()}
    truth = [labels.index(slug[fold_name(row["mapped18"])]) for _, row in products]
    cache.parent.mkdir(parents=True, exist_ok=True)
    ensemble = combine_probabilities(both["text"], both["image"], starter_rule(), labels)
    np.savez(cache, text=both["text"], image=both["image"], ensemble=ensemble, truth=truth, labels=labels)


def labelled_rows(data: Path) -> Iterator[tuple[Path, Row]]:
    """Yield every product with a title and one of the starters' categories, with the table that it is in."""
    for table in product_tables(data):
        for row in read_rows(table):
            if row["title"] and row["mapped18"]:
                yield table, row


def held_back_rows(products: Sequence[tuple[Path, Row]]) -> list[tuple[Path, Row]]:
    from training.datasets import splits

    near, kept = splits.NearTitles(), []
    for table, row in products:
        words = splits.title_words(row["title"])
        key = splits.split_key(words, source=table.parent.name, group="", photo_digest="", external_id=row["id"])
        part = splits.split_of_key(key)
        bands = splits.minhash_bands(words)
        near.add(words, bands, part)
        if part != splits.TRAIN and row["image"] and row.get("shard"):
            kept.append((table, row, words, bands))
    return [(table, row) for table, row, words, bands in kept if splits.TRAIN not in near.find_splits(words, bands)]


def _softmax(scores: npt.NDArray[np.float64]) -> Array:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)
