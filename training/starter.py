"""The starter models: heads over the bundled backbones, small enough to be committed."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from classifier import artifact
from classifier.backbones import HEAD, answer
from training import yardstick
from training.card import card
from training.datasets import Product, Split, read_products
from training.evaluate import (
    BINS,
    COLUMNS,
    Metrics,
    Probabilities,
    measure,
    measure_by,
    measure_classes,
    table,
)
from training.heads import (
    STARTER_IMAGE,
    STARTER_TEXT,
    Array,
    Fitted,
    Part,
    Progress,
    Recipe,
    contested,
    embed_images,
    embed_texts,
    fit,
    weigh,
)
from training.pair import Answered, Pair, Rule, fit_rule, targets_of


@dataclass(frozen=True)
class Trained:
    """One modality's head and what it says of its held-back products."""

    recipe: Recipe
    fitted: list[Fitted]
    train: list[Product]
    validation: Answered
    test: Answered
    metrics: dict[str, Any]


def train_starter(data: Path, out: Path, *, cache: Path, progress: Progress) -> str:
    """Train both heads on `data`, write the artifacts out/text and out/image, return the figures as Markdown.

    Raises FileNotFoundError when `data` holds no data set.
    """
    products = read_products(data)
    labels = sorted({product.label for product in products})
    text = _train(STARTER_TEXT, products, labels, cache, progress)
    image = _train(STARTER_IMAGE, products, labels, cache, progress)
    rule = fit_rule(
        Pair.of(text.validation, image.validation),
        labels,
        text_weight=text.metrics["accuracy"],
        image_weight=image.metrics["accuracy"],
    )
    checksums: dict[str, str] = {
        trained.recipe.modality: write_artifact(trained, labels, data, out / trained.recipe.modality)
        for trained in (text, image)
    }
    write_rule(rule, checksums, Pair.of(text.test, image.test), labels, out / "ensemble.json")
    progress("yardstick", 0, 1)
    tfidf = _yardstick(products, labels)
    progress("yardstick", 1, 1)
    return figures(text, image, rule, tfidf, labels)


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
            card(trained.recipe, trained.fitted, trained.train, trained.test.products, trained.metrics, data),
            encoding="utf-8",
        )
        checksum = artifact.seal(fresh)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.replace(folder)
    return checksum


def write_rule(rule: Rule, checksums: Mapping[str, str], test: Pair, labels: Sequence[str], path: Path) -> None:
    """Write the rule of a pair of artifacts with its held-back figures, before and after the temperature."""
    targets = targets_of(test.products, labels)
    metrics = {
        "mean": measure(replace(rule, temperature=1.0).combine(test), targets),
        "with temperature": measure(rule.combine(test), targets),
    }
    parameters = {"temperature": rule.temperature}
    content = {**checksums, "kind": "accuracy-weighted", "parameters": parameters, "metrics": metrics}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def figures(text: Trained, image: Trained, rule: Rule, tfidf: Probabilities, labels: Sequence[str]) -> str:
    """Return every held-back figure: each modality, the yardstick, and the ensemble where both can answer."""
    words = Answered(text.test.products, tfidf)
    both = Pair.of(text.test, image.test)
    plain = replace(rule, temperature=1.0)
    sections = [
        ("Text", _table(text.test, labels)),
        ("Yardstick: TF-IDF + logistic regression", _table(words, labels)),
        ("Image", _table(image.test, labels)),
        *(
            (f"Products with text and photograph: {name}", _table(Answered(both.products, probabilities), labels))
            for name, probabilities in (
                ("text alone", both.text),
                ("image alone", both.image),
                ("plain mean", plain.combine(both)),
                (f"ensemble (temperature {rule.temperature:.3f})", rule.combine(both)),
                ("yardstick", Pair.of(words, image.test).text),
            )
        ),
    ]
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
            torch.from_numpy(targets_of(chosen, labels)),
            torch.from_numpy(weigh(chosen, recipe)),
            torch.from_numpy(contested(chosen)),
        )

    fitted = fit(part("train"), part("validation"), len(labels), recipe, progress)
    # What is measured is what is stored: a head in half precision, read back as float32.
    head = fitted[0].head.half().float()

    def answered(split: Split) -> Answered:
        chosen = torch.from_numpy(embeddings[rows[split]])
        return Answered([usable[row] for row in rows[split]], answer(head, chosen, fitted[0].temperature).probabilities)

    train, test = [usable[row] for row in rows["train"]], answered("test")
    return Trained(recipe, fitted, train, answered("validation"), test, _metrics(test, train, labels))


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


def _metrics(test: Answered, train: Sequence[Product], labels: Sequence[str]) -> dict[str, Any]:
    probabilities, targets = test.probabilities, targets_of(test.products, labels)
    counts = Counter(product.label for product in train)
    classes = measure_classes(probabilities, targets, labels)
    several = contested(test.products)
    return {
        **measure(probabilities, targets),
        "ece_formula": f"Guo et al. 2017, equation 3, {BINS} equally wide bins of the top probability",
        "several": measure(probabilities[several], targets[several]),
        "datasets": measure_by(probabilities, targets, [product.dataset for product in test.products]),
        "classes": {name: {"train": counts[name], **values} for name, values in classes.items()},
    }


def _table(answered: Answered, labels: Sequence[str]) -> str:
    products, probabilities = answered.products, answered.probabilities
    targets = targets_of(products, labels)
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
