"""What to train and how, as settings that check themselves."""

from dataclasses import dataclass
from typing import Literal

from classifier.backbones import BUNDLED_IMAGE, BUNDLED_TEXT

Modality = Literal["text", "image"]


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
