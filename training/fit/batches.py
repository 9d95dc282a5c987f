"""Read training rows as batches of tensors, in an order that depends on the seed and the epoch alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from classifier.ml.encoders import Preprocess
from classifier.ml.image_model import crop_image, to_rgb
from training.fit.features import Floats, Tokens, read_images
from training.fit.job import SplitTable
from training.fit.recipes import ImageRecipe

Batch = dict[str, Tensor]

# How many batches' rows are sorted by length together. More would leave less chance in a batch, fewer more padding.
BATCHES_TO_SORT = 32


@dataclass(frozen=True)
class RowTargets:
    """The class of each row, (n,) int64, and its weight in the loss, (n,) float32."""

    targets: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]

    def select(self, rows: Sequence[int]) -> Batch:
        """Return the targets of some rows as tensors."""
        chosen = list(rows)
        return {
            "labels": torch.from_numpy(self.targets[chosen]),
            "weights": torch.from_numpy(self.weights[chosen]),
        }


class TrainingRows(Dataset[Any]):
    """Rows that are read a batch at a time; `lengths` (n,), where given, says which ones cost the same to compute."""

    lengths: npt.NDArray[np.int64] | None = None

    def __init__(self, targets: RowTargets) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets.targets)

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        return self.inputs(rows) | self.targets.select(rows)

    def inputs(self, rows: Sequence[int]) -> Batch:
        """Return the network's inputs of some rows."""
        raise NotImplementedError


class EmbeddingRows(TrainingRows):
    """Embeddings that the frozen encoder computed."""

    def __init__(self, embeddings: Floats, targets: RowTargets) -> None:
        super().__init__(targets)
        self.embeddings = embeddings

    def inputs(self, rows: Sequence[int]) -> Batch:
        return {"embeddings": torch.from_numpy(np.ascontiguousarray(self.embeddings[list(rows)]))}


class TokenRows(TrainingRows):
    """Tokens, padded to the longest row of their batch; `dropout` is the share that is left out at random."""

    def __init__(self, tokens: Tokens, targets: RowTargets, *, padding: int, dropout: float = 0.0) -> None:
        super().__init__(targets)
        self.tokens, self.padding, self.dropout = tokens, padding, dropout
        self.lengths = tokens.lengths

    def inputs(self, rows: Sequence[int]) -> Batch:
        texts = [self._drop_tokens(self.tokens.row(row)) for row in rows]
        longest = max(map(len, texts))
        ids = np.full((len(texts), longest), self.padding, np.int64)
        mask = np.zeros((len(texts), longest), np.int64)
        for place, text in enumerate(texts):
            ids[place, : len(text)] = text
            mask[place, : len(text)] = 1
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

    def _drop_tokens(self, text: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        if not self.dropout:
            return text
        kept = torch.rand(len(text)).numpy() >= self.dropout
        kept[[0, -1]] = True  # the tokens of beginning and end
        return text[kept]


class PhotoRows(TrainingRows):
    """Photos as bytes (n, 3, size, size); decoded, cropped and augmented in the loader's processes."""

    def __init__(
        self, table: SplitTable, targets: RowTargets, preprocess: Preprocess, recipe: ImageRecipe | None = None
    ) -> None:
        """`recipe` says how to augment the photos; None crops them as in serving."""
        super().__init__(targets)
        self.table, self.preprocess = table, preprocess
        self.augment = None
        if recipe and recipe.augmentation != "none":
            self.augment = _augmentation(recipe, preprocess)

    def inputs(self, rows: Sequence[int]) -> Batch:
        pixels = []
        for image in read_images(self.table, rows):
            if self.augment is None:
                pixels.append(crop_image(image, self.preprocess))
            else:
                pixels.append(np.asarray(self.augment(to_rgb(image)), np.uint8))
        return {"pixels": torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)}


class SortedByLength(TrainingRows):
    """The same rows from short to long, so that a batch holds little padding."""

    def __init__(self, rows: TrainingRows, lengths: npt.NDArray[np.int64]) -> None:
        self.rows, self.order = rows, np.argsort(lengths, kind="stable")
        super().__init__(RowTargets(rows.targets.targets[self.order], rows.targets.weights[self.order]))

    def inputs(self, rows: Sequence[int]) -> Batch:
        return self.rows.inputs(self.order[list(rows)].tolist())


def _augmentation(recipe: ImageRecipe, preprocess: Preprocess) -> Callable[[Any], Any]:
    from torchvision.transforms import v2

    steps: list[Any] = [
        v2.RandomResizedCrop(
            preprocess.size, scale=(recipe.smallest_crop, 1.0), interpolation=v2.InterpolationMode.BICUBIC
        ),
        v2.RandomHorizontalFlip(),
    ]
    if recipe.augmentation == "strong":
        steps.append(v2.RandAugment(num_ops=2, magnitude=7, fill=127))
    augment: Callable[[Any], Any] = v2.Compose(steps)
    return augment


class EpochOrder(Sampler[int]):
    """The rows of an epoch in random order, another one in each epoch; rows of similar length share a batch.

    It depends on its settings and `epoch` alone: all processes see the same order, and one that continues from a
    checkpoint finds its place in it.
    """

    def __init__(
        self,
        rows: int,
        *,
        batch_size: int,
        seed: int,
        lengths: npt.NDArray[np.int64] | None = None,
        known: npt.NDArray[np.bool_] | None = None,
        known_share: float | None = None,
    ) -> None:
        """`known` rows are drawn so often that they make up `known_share` of an epoch, which keeps its length."""
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.lengths, self.known, self.known_share = lengths, known, known_share
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is read next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self._draw_rows(random))
        if self.lengths is not None:
            order = self._group_by_length(order, self.lengths, random)
        return iter(order.tolist())

    def _draw_rows(self, random: np.random.Generator) -> npt.NDArray[np.int64]:
        every = np.arange(self.rows)
        if self.known is None or self.known_share is None or self.known.all() or not self.known.any():
            return every
        old, new = every[self.known], every[~self.known]
        wanted = round(self.known_share * self.rows)
        return np.concatenate([_repeat_rows(old, wanted, random), _repeat_rows(new, self.rows - wanted, random)])

    def _group_by_length(
        self, order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], random: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        batches: list[npt.NDArray[np.int64]] = []
        step = self.batch_size * BATCHES_TO_SORT
        for start in range(0, len(order), step):
            block = order[start : start + step]
            block = block[np.argsort(lengths[block], kind="stable")]
            batches += [block[at : at + self.batch_size] for at in range(0, len(block), self.batch_size)]
        # The loader cuts this order into batches again. The one short batch, if any, stays last: anywhere else it
        # would shift all that follow, and rows of different lengths would share a batch.
        last = batches.pop() if len(batches[-1]) < self.batch_size else None
        shuffled = [batches[place] for place in random.permutation(len(batches))]
        if last is not None:
            shuffled.append(last)
        return np.concatenate(shuffled)


def _repeat_rows(rows: npt.NDArray[np.int64], wanted: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return `wanted` rows, each as often as the others but for one time."""
    whole, rest = divmod(wanted, len(rows))
    return np.concatenate([np.tile(rows, whole), random.permutation(rows)[:rest]])
