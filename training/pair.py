"""Two models over the same products, and the rule that makes one answer of theirs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from classifier import ensemble
from training.datasets import Product
from training.evaluate import Probabilities, Targets
from training.heads import Array, contested, fit_temperature


@dataclass(frozen=True)
class Answered:
    """Products and what a model says of them, probabilities (n, classes) in the products' order."""

    products: list[Product]
    probabilities: Probabilities

    def by_key(self) -> dict[tuple[str, str], Array]:
        return {_key(p): row for p, row in zip(self.products, self.probabilities, strict=True)}


@dataclass(frozen=True)
class Pair:
    """What both models say of the same products, which have text and photograph."""

    products: list[Product]
    text: Probabilities
    image: Probabilities

    @classmethod
    def of(cls, text: Answered, image: Answered) -> "Pair":
        by_image = image.by_key()
        rows = [row for row, product in enumerate(text.products) if _key(product) in by_image]
        products = [text.products[row] for row in rows]
        return cls(products, text.probabilities[rows], np.stack([by_image[_key(p)] for p in products]))

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Pair":
        rows = np.flatnonzero(chosen)
        return Pair([self.products[row] for row in rows], self.text[rows], self.image[rows])


@dataclass(frozen=True)
class Rule:
    """How the ensemble combines: the models' accuracies and the pair's temperature."""

    text_weight: float
    image_weight: float
    temperature: float = 1.0

    def combine(self, pair: Pair) -> Probabilities:
        rule = ensemble.Rule(text=self.text_weight, image=self.image_weight, temperature=self.temperature)
        return ensemble.combine(pair.text, pair.image, rule)


def fit_rule(validation: Pair, labels: Sequence[str], *, text_weight: float, image_weight: float) -> Rule:
    """Fit the ensemble's temperature on the validation products of sets with several categories."""
    plain = Rule(text_weight, image_weight)
    pair = validation.where(contested(validation.products))
    logits = torch.from_numpy(np.log(plain.combine(pair).clip(min=1e-12)))
    targets = torch.from_numpy(targets_of(pair.products, labels))
    return replace(plain, temperature=fit_temperature(logits, targets, torch.ones(len(targets))))


def targets_of(products: Sequence[Product], labels: Sequence[str]) -> Targets:
    """Return the products' label numbers, (n,) int64."""
    place = {label: column for column, label in enumerate(labels)}
    return np.array([place[product.label] for product in products], np.int64)


def _key(product: Product) -> tuple[str, str]:
    return product.dataset, product.id
