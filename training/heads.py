"""From labelled products to a fitted head: embeddings (cached), weights, the head, its temperature."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from classifier.artifact import BUNDLED_IMAGE, BUNDLED_TEXT
from classifier.backbones import build_head, pick_device
from classifier.image import ImageEncoder
from classifier.text import TextEncoder, join_text
from training.datasets import Product, open_images
from training.recipes import Modality


@dataclass(frozen=True)
class HeadRecipe:
    """One head to try: `hidden` units (0 = linear) and how strongly its weights are held back."""

    hidden: int = 0
    weight_decay: float = 1e-4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.hidden < 0:
            raise ValueError(f"hidden must not be negative, not {self.hidden}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, not {self.weight_decay}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")


@dataclass(frozen=True)
class Recipe:
    """A frozen backbone and the heads to choose from by validation log-loss.

    A product weighs (size of its data set) ** -dataset_power * (mass of its category) ** -class_power: 0
    leaves the data as found, 1 lets each data set or category count the same.
    """

    modality: Modality
    backbone: str
    heads: tuple[HeadRecipe, ...]
    max_tokens: int = 128
    dataset_power: float = 0.5
    class_power: float = 0.25
    epochs: int = 40
    patience: int = 5
    batch_size: int = 512
    learning_rate: float = 1e-3
    seed: int = 18

    def __post_init__(self) -> None:
        if not self.backbone:
            raise ValueError("backbone must be a name")
        if not self.heads:
            raise ValueError("heads must hold at least one head to try")
        if not 8 <= self.max_tokens <= 512:
            raise ValueError(f"max_tokens must lie between 8 and 512, not {self.max_tokens}")
        for name in ("dataset_power", "class_power"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in ("epochs", "patience", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")


STARTER_TEXT = Recipe(
    modality="text",
    backbone=BUNDLED_TEXT,
    heads=(
        HeadRecipe(weight_decay=1e-5),
        HeadRecipe(hidden=256, dropout=0.2, weight_decay=0.01),
        HeadRecipe(hidden=512, dropout=0.3, weight_decay=0.01),
    ),
    epochs=20,
    batch_size=1024,
    learning_rate=4e-3,
)

STARTER_IMAGE = Recipe(
    modality="image",
    backbone=BUNDLED_IMAGE,
    heads=(
        HeadRecipe(weight_decay=1e-2),
        HeadRecipe(weight_decay=1e-3),
        HeadRecipe(hidden=192, dropout=0.7, weight_decay=0.1),
        HeadRecipe(hidden=192, dropout=0.8, weight_decay=0.3),
    ),
    epochs=25,
)


Array = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]

# Bump when preprocessing changes: it is part of every cache file's name.
REVISION = 1
TEXTS_PER_STEP = 512
IMAGES_PER_STEP = 64


def embed_texts(
    products: Sequence[Product], *, backbone: str, max_tokens: int, cache: Path, progress: Progress
) -> Array:
    """Return unit embeddings (n, dim) float32 of title and description."""
    texts = [join_text(product.title, product.description) for product in products]

    def compute() -> Array:
        encoder = TextEncoder(backbone, max_tokens, pick_device(None))
        # Alike lengths meet in one step, so that little of it is padding.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        parts = []
        for start in range(0, len(order), TEXTS_PER_STEP):
            parts.append(encoder.encode([texts[row] for row in order[start : start + TEXTS_PER_STEP]]).cpu())
            progress("texts", min(start + TEXTS_PER_STEP, len(order)), len(order))
        return torch.cat(parts)[torch.tensor(order).argsort()].numpy()

    return _cached(cache, ["text", backbone, str(max_tokens), *texts], compute)


def embed_images(products: Sequence[Product], *, backbone: str, cache: Path, progress: Progress) -> Array:
    """Return unit embeddings (n, dim) float32 of the photographs."""

    def compute() -> Array:
        encoder = ImageEncoder(backbone, pick_device(None))
        images, parts = open_images(products), []
        while batch := list(islice(images, IMAGES_PER_STEP)):
            parts.append(encoder.encode(batch).cpu())
            progress("images", sum(map(len, parts)), len(products))
        return torch.cat(parts).numpy()

    return _cached(cache, ["image", backbone, *(product.digest for product in products)], compute)


def _cached(folder: Path, parts: Sequence[str], compute: Callable[[], Array]) -> Array:
    digest = hashlib.sha256("\0".join([str(REVISION), *parts]).encode()).hexdigest()[:24]
    path = folder / f"{parts[0]}-{digest}.npy"
    if path.is_file():
        cached: Array = np.load(path, allow_pickle=False)
        return cached
    embeddings = compute()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.save(file, embeddings)
    unfinished.replace(path)
    return embeddings


@dataclass(frozen=True)
class Part:
    """One split: embeddings (n, dim) float32, targets (n,) int64, weights (n,) float32, contested (n,) bool."""

    embeddings: Tensor
    targets: Tensor
    weights: Tensor
    contested: Tensor


@dataclass(frozen=True)
class Fitted:
    """A head in eval mode, its recipe, its temperature and its (weighted) validation log-loss."""

    head: nn.Sequential
    recipe: HeadRecipe
    temperature: float
    log_loss: float


def weigh(products: Sequence[Product], recipe: Recipe) -> Array:
    """Return one weight a product, (n,) float32 of mean 1, as the recipe says."""
    sets = _inverse([product.dataset for product in products], np.ones(len(products)), recipe.dataset_power)
    both = sets * _inverse([product.label for product in products], sets, recipe.class_power)
    return np.asarray(both / both.mean(), np.float32)


def contested(products: Sequence[Product]) -> npt.NDArray[np.bool_]:
    """Return for each product, (n,), whether its data set holds more than one category.

    Only such sets say how sure a model may be: where all is clothing, the look of the set answers. When no set
    holds several, all count.
    """
    labels: dict[str, set[str]] = {}
    for product in products:
        labels.setdefault(product.dataset, set()).add(product.label)
    several = np.array([len(labels[product.dataset]) > 1 for product in products])
    return several if several.any() else ~several


def fit(train: Part, validation: Part, classes: int, recipe: Recipe, progress: Progress) -> list[Fitted]:
    """Return the recipe's heads fitted on `train`, the one with the lowest validation log-loss first."""
    fitted = []
    for number, head_recipe in enumerate(recipe.heads, start=1):
        torch.manual_seed(recipe.seed)
        fitted.append(_fit_one(train, validation, classes, head_recipe, recipe))
        progress(f"{recipe.modality} heads", number, len(recipe.heads))
    return sorted(fitted, key=lambda candidate: candidate.log_loss)


def fit_temperature(logits: Tensor, targets: Tensor, weights: Tensor) -> float:
    """Return the temperature of the lowest weighted log-loss (Guo et al. 2017, section 4.2)."""
    logits = logits.detach().double()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(logits / log_temperature.exp(), targets, weights)
        loss.backward()
        return loss

    optimizer.step(closure)
    return math.exp(log_temperature.item())


def _fit_one(train: Part, validation: Part, classes: int, head_recipe: HeadRecipe, recipe: Recipe) -> Fitted:
    mean, std = train.embeddings.mean(dim=0), train.embeddings.std(dim=0)
    # MiniLM has a dimension that never changes; dividing by its deviation would overflow half precision.
    std = std.clamp(min=float(0.1 * std.mean()))
    head = build_head(train.embeddings.shape[1], head_recipe.hidden, classes, head_recipe.dropout)
    scaled = replace(train, embeddings=(train.embeddings - mean) / std)
    checked = replace(validation, embeddings=(validation.embeddings - mean) / std)
    if head_recipe.hidden:
        _fit_by_batches(head, scaled, checked, head_recipe, recipe)
    else:
        _fit_at_once(head, scaled, head_recipe)
    _fold(head[0], mean, std)
    head.eval().requires_grad_(False)
    with torch.inference_mode():
        logits = head(validation.embeddings)
    # A tensor made in inference mode cannot enter autograd; its clone can.
    temperature = fit_temperature(logits.clone(), validation.targets, validation.weights * validation.contested)
    loss = _loss(logits / temperature, validation.targets, validation.weights)
    return Fitted(head, head_recipe, temperature, loss.item())


def _fit_at_once(head: nn.Sequential, train: Part, recipe: HeadRecipe) -> None:
    """L2-regularised multinomial logistic regression, by at most 300 steps of L-BFGS."""
    nn.init.zeros_(head[0].weight)  # type: ignore[arg-type]
    nn.init.zeros_(head[0].bias)  # type: ignore[arg-type]
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=300, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = recipe.weight_decay * head[0].weight.square().sum()  # type: ignore[operator]
        loss: Tensor = _loss(head(train.embeddings), train.targets, train.weights) + penalty
        loss.backward()
        return loss

    optimizer.step(closure)


def _fit_by_batches(
    head: nn.Sequential, train: Part, validation: Part, head_recipe: HeadRecipe, recipe: Recipe
) -> None:
    """AdamW with a one-cycle learning rate; keeps the epoch with the lowest validation log-loss."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, weight_decay=head_recipe.weight_decay)
    steps = math.ceil(len(train.targets) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=steps * recipe.epochs
    )
    best, kept, stale = math.inf, {}, 0
    for _ in range(recipe.epochs):
        head.train()
        for rows in torch.split(torch.randperm(len(train.targets)), recipe.batch_size):
            optimizer.zero_grad()
            loss = _loss(head(train.embeddings[rows]), train.targets[rows], train.weights[rows])
            loss.backward()
            optimizer.step()
            schedule.step()
        head.eval()
        with torch.no_grad():
            checked = _loss(head(validation.embeddings), validation.targets, validation.weights).item()
        stale = 0 if checked < best else stale + 1
        if checked < best:
            best, kept = checked, {name: value.clone() for name, value in head.state_dict().items()}
        if stale >= recipe.patience:
            break
    head.load_state_dict(kept)


def _fold(layer: nn.Module, mean: Tensor, std: Tensor) -> None:
    """Move the standardisation of the inputs into the layer, so that a head reads plain embeddings."""
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"the first layer must be linear, not {type(layer).__name__}")
    with torch.no_grad():
        layer.weight.div_(std)
        layer.bias.sub_(layer.weight @ mean)


def _loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return (cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


def _inverse(names: Sequence[str], mass: npt.NDArray[np.float64], power: float) -> npt.NDArray[np.float64]:
    """Return for each row (total mass of its name) ** -power."""
    _, place = np.unique(np.array(names), return_inverse=True)
    return np.asarray(np.bincount(place, weights=mass)[place] ** -power, np.float64)
