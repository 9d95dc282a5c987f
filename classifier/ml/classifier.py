"""Define the interface of every model: what it reads and what it returns. Web processes may import this."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

    from classifier.ml.engines.base import Encoder


@dataclass(frozen=True, slots=True)
class ProductInput:
    """What the models read of one product; any part may be missing."""

    title: str = ""
    description: str = ""
    photo: "Image.Image | None" = None  # decoded, RGB

    @property
    def has_text(self) -> bool:
        return bool(self.title or self.description)

    @property
    def has_photo(self) -> bool:
        return self.photo is not None


@dataclass(frozen=True)
class BatchOutput:
    """What a model returns for a batch: probabilities (n, classes) and unit embeddings (n, dim), both float32."""

    probabilities: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]


class Classifier(Protocol):
    """A loaded model of one modality. `classifier.modalities` says which products it can read."""

    labels: list[str]  # the category slugs, in the order of the probabilities' columns

    @property
    def encoder(self) -> "Encoder": ...

    @property
    def engine(self) -> str:
        """The name of what computes the encoder: library, precision and device."""

    def predict(self, products: Sequence[ProductInput]) -> BatchOutput:
        """Return probabilities (n, classes), rows summing to 1, and unit embeddings (n, dim), both float32.

        Raises ValueError for an empty batch or a product that the modality can't read.
        """
