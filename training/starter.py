"""The starter models: heads over the bundled backbones, small enough to be committed."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from classifier import artifact, ensemble
from classifier.backbones import HEAD, answer
from training import yardstick
from training.card import card
from training.datasets import Product, Split, read_products
from training.evaluate import (
    BINS,
    COLUMNS,
    Metrics,
    Probabilities,
    Targets,
    measure,
    measure_by,
    measure_classes,
    table,
)
from training.fit import Array, Fitted, Part, Progress, contested, embed_images, embed_texts, fit, weigh
from training.recipes import STARTER_IMAGE, STARTER_TEXT, Recipe


@dataclass(frozen=True)
class Trained:
    """One modality's head and what it says of its held-back products."""

    recipe: Recipe
    fitted: list[Fitted]
    train: list[Product]
    test: list[Product]
    probabilities: Probabilities
    metrics: dict[str, Any]


def train_starter(data: Path, out: Path, *, cache: Path, progress: Progress) -> str:
    """Train both heads on `data`, write the artifacts out/text and out/image, return the figures as Markdown.

    Raises FileNotFoundError when `data` holds no data set.
    """
    products = read_products(data)
    labels = sorted({product.label for product in products})
    text = _train(STARTER_TEXT, products, labels, cache, progress)
    image = _train(STARTER_IMAGE, products, labels, cache, progress)
    for trained in (text, image):
        write_artifact(trained, labels, data, out / trained.recipe.modality)
    progress("yardstick", 0, 1)
    tfidf = _yardstick(products, labels)
    progress("yardstick", 1, 1)
    return figures(text, image, tfidf, labels)


def write_artifact(trained: Trained, labels: Sequence[str], data: Path, folder: Path) -> str:
    """Write a sealed artifact in the place of `folder` and return its checksum."""
    best = trained.fitted[0]
    config = {
        "format": artifact.FORMAT,
        "modality": trained.recipe.modality,
        "backbone": trained.recipe.backbone,
        "labels": list(labels),
        "temperature": best.temperature,
        "dim": best.head[0].in_features,
        "hidden": best.recipe.hidden,
        **({"max_tokens": trained.recipe.max_tokens} if trained.recipe.modality == "text" else {}),
        "recipe": asdict(trained.recipe),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        fresh = Path(temporary) / folder.name
        fresh.mkdir()
        state = {HEAD + name: value.half().contiguous() for name, value in best.head.state_dict().items()}
        # safetensors' own writer makes files that only their owner may read.
        (fresh / artifact.WEIGHTS).write_bytes(save(state))
        for name, content in ((artifact.CONFIG, config), ("metrics.json", trained.metrics)):
            (fresh / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (fresh / "card.md").write_text(
            card(trained.recipe, trained.fitted, trained.train, trained.test, trained.metrics, data),
            encoding="utf-8",
        )
        checksum = artifact.seal(fresh)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.replace(folder)
    return checksum


def figures(text: Trained, image: Trained, tfidf: Probabilities, labels: Sequence[str]) -> str:
    """Return every held-back figure: each modality, the yardstick, and the ensemble where both can answer."""
    sections = [
        ("Text", _table(text.test, text.probabilities, labels)),
        ("Yardstick: TF-IDF + logistic regression", _table(text.test, tfidf, labels)),
        ("Image", _table(image.test, image.probabilities, labels)),
    ]
    by_text, by_image = _by_key(text), _by_key(image)
    both = [product for product in text.test if _key(product) in by_image]
    text_side = np.stack([by_text[_key(product)] for product in both])
    image_side = np.stack([by_image[_key(product)] for product in both])
    words = {_key(product): row for product, row in zip(text.test, tfidf, strict=True)}
    combined = ensemble.combine(
        text_side,
        image_side,
        text_weight=text.metrics["accuracy"],
        image_weight=image.metrics["accuracy"],
    )
    for name, probabilities in (
        ("text alone", text_side),
        ("image alone", image_side),
        ("ensemble", combined),
        ("yardstick", np.stack([words[_key(product)] for product in both])),
    ):
        sections.append((f"Products with text and photograph: {name}", _table(both, probabilities, labels)))
    return "\n".join(f"### {name}\n\n{content}\n" for name, content in sections)


def _train(
    recipe: Recipe, products: Sequence[Product], labels: Sequence[str], cache: Path, progress: Progress
) -> Trained:
    usable = [p for p in products if (p.has_text if recipe.modality == "text" else p.has_image)]
    embeddings = _embed(recipe, usable, cache, progress)
    rows: dict[Split, list[int]] = {"train": [], "validation": [], "test": []}
    for row, product in enumerate(usable):
        rows[product.split].append(row)

    def part(split: Split) -> Part:
        chosen = [usable[row] for row in rows[split]]
        return Part(
            torch.from_numpy(embeddings[rows[split]]),
            torch.from_numpy(_targets(chosen, labels)),
            torch.from_numpy(weigh(chosen, recipe)),
            torch.from_numpy(contested(chosen)),
        )

    fitted = fit(part("train"), part("validation"), len(labels), recipe, progress)
    # What is measured is what is stored: a head in half precision, read back as float32.
    head = fitted[0].head.half().float()
    train, test = ([usable[row] for row in rows[split]] for split in ("train", "test"))
    probabilities = answer(head, torch.from_numpy(embeddings[rows["test"]]), fitted[0].temperature).probabilities
    metrics = _metrics(probabilities, test, train, labels)
    return Trained(recipe, fitted, train, test, probabilities, metrics)


def _embed(recipe: Recipe, products: Sequence[Product], cache: Path, progress: Progress) -> Array:
    if recipe.modality == "image":
        return embed_images(products, backbone=recipe.backbone, cache=cache, progress=progress)
    return embed_texts(products, backbone=recipe.backbone, max_tokens=recipe.max_tokens, cache=cache, progress=progress)


def _yardstick(products: Sequence[Product], labels: Sequence[str]) -> Probabilities:
    parts: dict[Split, list[Product]] = {"train": [], "validation": [], "test": []}
    for product in products:
        if product.has_text:
            parts[product.split].append(product)
    return yardstick.predict(parts["train"], parts["validation"], parts["test"], labels, STARTER_TEXT)


def _metrics(
    probabilities: Probabilities, test: Sequence[Product], train: Sequence[Product], labels: Sequence[str]
) -> dict[str, Any]:
    targets = _targets(test, labels)
    counts = Counter(product.label for product in train)
    classes = measure_classes(probabilities, targets, labels)
    several = contested(test)
    return {
        **measure(probabilities, targets),
        "ece_formula": f"Guo et al. 2017, equation 3, {BINS} equally wide bins of the top probability",
        "several": measure(probabilities[several], targets[several]),
        "datasets": measure_by(probabilities, targets, [product.dataset for product in test]),
        "classes": {name: {"train": counts[name], **values} for name, values in classes.items()},
    }


def _table(products: Sequence[Product], probabilities: Probabilities, labels: Sequence[str]) -> str:
    targets = _targets(products, labels)
    sets = measure_by(probabilities, targets, [product.dataset for product in products])
    several = contested(products)
    mean: Metrics = {key: float(np.mean([row[key] for row in sets.values()])) for key in COLUMNS}
    rows = {
        **sets,
        "**pooled**": measure(probabilities, targets),
        "*sets of several categories*": measure(probabilities[several], targets[several]),
        "*mean of sets*": {**mean, "n": len(products)},
    }
    return table(rows, "data set")


def _targets(products: Sequence[Product], labels: Sequence[str]) -> Targets:
    place = {label: column for column, label in enumerate(labels)}
    return np.array([place[product.label] for product in products], np.int64)


def _key(product: Product) -> tuple[str, str]:
    return product.dataset, product.id


def _by_key(trained: Trained) -> dict[tuple[str, str], Array]:
    return {_key(product): row for product, row in zip(trained.test, trained.probabilities, strict=True)}
