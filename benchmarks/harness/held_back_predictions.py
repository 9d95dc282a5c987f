"""Compute the starter models' outputs for real products that they were not trained with; keep them in a folder.

The starters were trained with the products that `training.datasets.splits` puts into the training part. Held back are
therefore products that fall to the test part and are alike to none that doesn't, and those that belong to none of the
starters' categories. Without data, made-up products take their place.
"""

import argparse
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from benchmarks.harness.items import made_items
from benchmarks.harness.products import (
    BATCH,
    STARTER,
    ProductPhotos,
    cache_folder,
    cache_key,
    data_folder,
    fold_name,
    product_tables,
    read_rows,
    shard_of,
    slugs_by_name,
    starter_rule,
)  # fmt: skip
from benchmarks.harness.progress import log_step, track_progress
from classifier.ml.ensemble import combine_probabilities
from common.photos import copies
from feedback.statistics.drift import input_features
from training.datasets import splits

Array = npt.NDArray[np.float32]

VERSION = 1  # of what is kept: count it up when this file chooses or computes otherwise
MOST_OF_A_SET = 1_500
QUICK_OF_A_SET = 120
MADE = 360
BLUR = 3.0  # pixels, of a picture whose short side has 256: a phone that didn't focus
MOST_BLURRED = 600
SEED = 18
QUICK_HELP = "fewer products and repetitions: some minutes"
UNSEEN = -1  # as a target: none of the starters' categories


@dataclass(frozen=True)
class Product:
    """One product: its own set's category, the starters' category ("" for none), its texts and its language."""

    source: str
    title: str
    description: str
    category: str
    slug: str
    language: str
    photo: tuple[str, str] | None = None  # the shard and the name in it


@dataclass(frozen=True)
class ModelOutputs:
    """A model's outputs; rows of NaN for products that it can't read."""

    probabilities: Array  # (n, labels)
    embeddings: Array  # (n, dim)
    energies: Array  # (n,): -logsumexp of the logits

    def take(self, rows: npt.NDArray[np.intp]) -> "ModelOutputs":
        """Return the outputs of some rows."""
        return ModelOutputs(self.probabilities[rows], self.embeddings[rows], self.energies[rows])


@dataclass(frozen=True)
class HeldBackPredictions:
    """Products, what they are, and what the models put out; everything has one row a product, in the same order."""

    kind: str  # "real" or "made up"
    labels: list[str]
    products: list[Product]
    targets: npt.NDArray[np.int64]  # column of the true category, or UNSEEN
    text: ModelOutputs
    image: ModelOutputs
    looks: Array  # (n, 4): width, height, brightness, sharpness; NaN without a photograph
    blurred: ModelOutputs  # the image model on the first photographs, blurred; NaN for the others
    blurred_looks: Array
    ensemble: Array = field(init=False)  # (n, labels): what a seller is shown

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "ensemble", combine_models(self.text.probabilities, self.image.probabilities, self.labels)
        )

    def __len__(self) -> int:
        return len(self.products)

    @property
    def has_text(self) -> npt.NDArray[np.bool_]:
        return np.isfinite(self.text.energies)

    @property
    def has_photo(self) -> npt.NDArray[np.bool_]:
        return np.isfinite(self.image.energies)


def combine_models(text: Array, image: Array, labels: Sequence[str]) -> Array:
    """Return both models combined by the starters' rule; a row of NaN stands for a model that can't answer."""
    answer = np.where(np.isnan(text), image, text)
    both = np.isfinite(text[:, 0]) & np.isfinite(image[:, 0])
    if both.any():
        answer[both] = combine_probabilities(text[both], image[both], starter_rule(), labels)
    return answer


def add_prediction_options(parser: argparse.ArgumentParser) -> None:
    """Add --data and --cache, which the benchmarks over these products share."""
    parser.add_argument("--data", type=Path, help="folder of product data (default: ../shared/data, else made up)")
    parser.add_argument("--cache", type=Path, help="where the starters' outputs are kept (default: var/benchmarks)")


def load_predictions(options: argparse.Namespace) -> HeldBackPredictions:
    """Return the held-back products that the command line asks for."""
    data = data_folder(options.data)
    return predictions_of(data if data.is_dir() else None, cache_folder(options.cache), quick=options.quick)


def predictions_of(data: Path | None, cache: Path, *, quick: bool = False) -> HeldBackPredictions:
    """Return the held-back products of `data`, or made-up ones, with the starters' answers, from the cache if there."""
    folder = cache / f"predicted-{cache_key(data, VERSION)}{'-quick' if quick else ''}"
    if not (folder / "products.json").is_file():
        _compute(data, folder, quick=quick)
    return _read(folder)


def _compute(data: Path | None, folder: Path, *, quick: bool) -> None:
    import torch

    from classifier.ml.image_model import ImageModel
    from classifier.ml.text_model import TextModel

    texts, images = TextModel.load(STARTER / "text"), ImageModel.load(STARTER / "image")
    assert texts.labels == images.labels
    if data:
        chosen = _choose(data, texts.labels, QUICK_OF_A_SET if quick else MOST_OF_A_SET)
        photos = _photos(data, chosen)
    else:
        chosen, photos = _made(texts.labels)
    count, classes = len(chosen), len(texts.labels)

    def run_model(model: Any, rows: list[int], inputs: Iterable[Any], what: str, dim: int) -> ModelOutputs:
        outputs = ModelOutputs(*(np.full((count, *shape), np.nan, np.float32) for shape in ((classes,), (dim,), ())))
        source = iter(inputs)
        for batch in track_progress([rows[start : start + BATCH] for start in range(0, len(rows), BATCH)], what):
            some = list(itertools.islice(source, len(batch)))
            with torch.inference_mode():
                if isinstance(model, TextModel):
                    parts = model.parts([title for title, _ in some], [words for _, words in some])
                    logits, embeddings = model.combine(parts), parts.embeddings
                else:
                    logits, embeddings = model.parts(some)
            outputs.probabilities[batch] = (logits.double() / model.temperature).softmax(dim=1).float().numpy()
            outputs.embeddings[batch] = embeddings.float().numpy()
            outputs.energies[batch] = -torch.logsumexp(logits.double(), dim=1).float().numpy()
        return outputs

    with_text = [row for row, product in enumerate(chosen) if product.title or product.description]
    pairs = ((chosen[row].title, chosen[row].description) for row in with_text)
    text = run_model(texts, with_text, pairs, "Texts", 384)
    with_photo = [row for row, product in enumerate(chosen) if product.photo]
    image = run_model(images, with_photo, map(photos, with_photo), "Photographs", 1280)
    blurry = with_photo[:MOST_BLURRED]
    blurred = run_model(images, blurry, map(_blur, map(photos, blurry)), "Blurred photographs", 1280)
    seen, unsharp = (np.full((count, 4), np.nan, np.float32) for _ in range(2))
    for row in with_photo:
        seen[row] = list(asdict(input_features.measure_photo(photos(row))).values())
    for row in blurry:
        unsharp[row] = list(asdict(input_features.measure_photo(_blur(photos(row)))).values())
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"looks": seen, "blurred_looks": unsharp}
    for name, answers in (("text", text), ("image", image), ("blurred", blurred)):
        arrays |= {f"{name}.{part.name}": getattr(answers, part.name) for part in fields(ModelOutputs)}
    np.savez(folder / "answers.npz", **arrays)
    about = {"kind": "real" if data else "made up", "labels": texts.labels, "products": [asdict(p) for p in chosen]}
    (folder / "products.json").write_text(json.dumps(about))


def _read(folder: Path) -> HeldBackPredictions:
    about = json.loads((folder / "products.json").read_text())
    with np.load(folder / "answers.npz") as arrays:
        parts = {
            name: ModelOutputs(*(arrays[f"{name}.{part.name}"] for part in fields(ModelOutputs)))
            for name in ("text", "image", "blurred")
        }
        seen, unsharp = arrays["looks"], arrays["blurred_looks"]
    products = [Product(**{**row, "photo": row["photo"] and tuple(row["photo"])}) for row in about["products"]]
    place = {label: column for column, label in enumerate(about["labels"])}
    targets = np.array([place.get(product.slug, UNSEEN) for product in products], np.int64)
    return HeldBackPredictions(
        about["kind"],
        about["labels"],
        products,
        targets,
        parts["text"],
        parts["image"],
        seen,
        parts["blurred"],
        unsharp,
    )


def _choose(data: Path, labels: Sequence[str], most: int) -> list[Product]:
    """Return up to `most` held-back products of each set, and a fifth as many of no category, in a random order."""
    rng = np.random.default_rng(SEED)
    products = list(_products(data, labels))
    log_step(f"{len(products)} products; looking for those that were held back")
    groups: dict[tuple[str, bool], list[Product]] = defaultdict(list)
    for product in _held_back(products):
        groups[product.source, not product.slug].append(product)
    chosen = []
    for (_source, unseen), found in sorted(groups.items()):
        order = rng.permutation(len(found))[: most // 5 if unseen else most]
        chosen += [found[place] for place in order]
    return [chosen[place] for place in rng.permutation(len(chosen))]


def _held_back(products: Sequence[Product]) -> Iterator[Product]:
    """Yield those of no category, and those of the test part whose kin, however far, is all of the test part.

    Kin are the products that `training.datasets.splits` keeps in one part: of the same words, near words or the same
    picture.
    A product without words goes with its set and group, which `category` holds then.
    """
    parents = list(range(len(products)))

    def find(row: int) -> int:
        while parents[row] != row:
            parents[row] = row = parents[parents[row]]
        return row

    words = [splits.title_words(product.title) for product in products]
    first: dict[object, int] = {}
    buckets: dict[int, list[int]] = defaultdict(list)
    for row, product in enumerate(products):
        if not product.slug:
            continue
        for key in filter(None, (splits.title_key(words[row]), product.photo and (product.source, *product.photo))):
            parents[find(row)] = find(first.setdefault(key, row))
        kin = set()
        for key in splits.minhash_bands(words[row]):
            kin.update(buckets[key])
            buckets[key].append(row)
        for other in kin:
            if find(other) != find(row) and splits.are_near_duplicates(words[row], words[other]):
                parents[find(other)] = find(row)
    tainted = set()
    for row, product in enumerate(products):
        if product.slug:
            key = splits.split_key(
                words[row], source=product.source, group=product.category, photo_digest="", external_id=""
            )
            if splits.split_of_key(key) != splits.TEST:
                tainted.add(find(row))
    for row, product in enumerate(products):
        if not product.slug or find(row) not in tainted:
            yield product


def _products(data: Path, labels: Sequence[str]) -> Iterator[Product]:
    """Yield every product of every set but those whose part depends on the bytes of their picture."""
    known = slugs_by_name()
    for table in product_tables(data):
        for row in read_rows(table):
            title, description = row["title"].strip()[:300], row["description"].strip()[:5000]
            group = row.get("subcategory", "")
            if not splits.title_words(title) and not group:
                continue
            slug = known.get(fold_name(row["mapped18"]), "")
            assert not row["mapped18"] or slug in labels
            photo = (shard_of(table, row), row["image"]) if row.get("shard") else None
            language = row.get("language") or "en"
            category = row["category"] if title else group
            yield Product(table.parent.name, title, description, category, slug, language, photo)


def _photos(data: Path, products: Sequence[Product]) -> Any:
    photos = ProductPhotos(data)

    def photo(row: int) -> Image.Image:
        return _small(photos.read(*(products[row].photo or ("", ""))))

    return photo


def _small(original: bytes) -> Image.Image:
    """Return the copy that the models see of an upload."""
    return Image.open(io.BytesIO(copies.make_copies(original)[1])).convert("RGB")


def _blur(photo: Image.Image) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(BLUR * min(photo.size) / copies.SMALL_SIDE))


def _made(labels: Sequence[str]) -> tuple[list[Product], Any]:
    """Return made-up products: two of each category in turn, as items.PRODUCTS lists them."""
    made = made_items(MADE)
    photos: dict[bytes, Image.Image] = {}
    for item in made:
        if item.photo not in photos:
            photos[item.photo] = _small(item.photo)
    products = []
    for row, item in enumerate(made):
        slug = labels[row // 2 % len(labels)]
        products.append(Product("made up", item.title, item.description, slug, slug, "en", ("", str(row))))
    return products, lambda row: photos[made[row].photo]
