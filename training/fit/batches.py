"""What the Trainer is fed with: whole batches as tensors, in an order that follows from the seed and the epoch."""

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

# Rows that are shuffled before those of like length meet, in batches.
BATCHES_TO_SORT = 32


@dataclass(frozen=True)
class RowTargets:
    """What each row should be answered, (n,) int64, and how much it counts, (n,) float32."""

    targets: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]

    def of(self, rows: Sequence[int]) -> Batch:
        chosen = list(rows)
        return {
            "labels": torch.from_numpy(self.targets[chosen]),
            "weights": torch.from_numpy(self.weights[chosen]),
        }


class TrainingRows(Dataset[Any]):
    """Rows that are read a batch at a time; `lengths` (n,) says which ones cost alike."""

    lengths: npt.NDArray[np.int64] | None = None

    def __init__(self, goals: RowTargets) -> None:
        self.goals = goals

    def __len__(self) -> int:
        return len(self.goals.targets)

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        return self.inputs(rows) | self.goals.of(rows)

    def inputs(self, rows: Sequence[int]) -> Batch:
        raise NotImplementedError


class EmbeddingRows(TrainingRows):
    """Frozen embeddings."""

    def __init__(self, embeddings: Floats, goals: RowTargets) -> None:
        super().__init__(goals)
        self.embeddings = embeddings

    def inputs(self, rows: Sequence[int]) -> Batch:
        return {"embeddings": torch.from_numpy(np.ascontiguousarray(self.embeddings[list(rows)]))}


class TokenRows(TrainingRows):
    """Tokens, padded to the longest of their batch; `dropout` is the share that is left out at random."""

    def __init__(self, tokens: Tokens, goals: RowTargets, *, padding: int, dropout: float = 0.0) -> None:
        super().__init__(goals)
        self.tokens, self.padding, self.dropout = tokens, padding, dropout
        self.lengths = tokens.lengths

    def inputs(self, rows: Sequence[int]) -> Batch:
        texts = [self._thin(self.tokens.row(row)) for row in rows]
        longest = max(map(len, texts))
        ids = np.full((len(texts), longest), self.padding, np.int64)
        mask = np.zeros((len(texts), longest), np.int64)
        for place, text in enumerate(texts):
            ids[place, : len(text)] = text
            mask[place, : len(text)] = 1
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

    def _thin(self, text: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        if not self.dropout:
            return text
        kept = torch.rand(len(text)).numpy() >= self.dropout
        kept[[0, -1]] = True  # the marks of beginning and end
        return text[kept]


class PhotoRows(TrainingRows):
    """Photographs as bytes (n, 3, size, size); decoded, cut and changed in the loader's processes."""

    def __init__(
        self, table: SplitTable, goals: RowTargets, preprocess: Preprocess, recipe: ImageRecipe | None = None
    ) -> None:
        """`recipe` says how to vary the pictures; None cuts them as in serving."""
        super().__init__(goals)
        self.table, self.preprocess = table, preprocess
        self.vary = _variation(recipe, preprocess) if recipe and recipe.augmentation != "none" else None

    def inputs(self, rows: Sequence[int]) -> Batch:
        pixels = [
            crop_image(image, self.preprocess) if self.vary is None else np.asarray(self.vary(to_rgb(image)), np.uint8)
            for image in read_images(self.table, rows)
        ]
        return {"pixels": torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)}


class SortedByLength(TrainingRows):
    """The same rows from short to long, so that little of a batch is padding."""

    def __init__(self, rows: TrainingRows, lengths: npt.NDArray[np.int64]) -> None:
        self.rows, self.order = rows, np.argsort(lengths, kind="stable")
        super().__init__(RowTargets(rows.goals.targets[self.order], rows.goals.weights[self.order]))

    def inputs(self, rows: Sequence[int]) -> Batch:
        return self.rows.inputs(self.order[list(rows)].tolist())


def _variation(recipe: ImageRecipe, preprocess: Preprocess) -> Callable[[Any], Any]:
    from torchvision.transforms import v2

    steps: list[Any] = [
        v2.RandomResizedCrop(
            preprocess.size, scale=(recipe.smallest_crop, 1.0), interpolation=v2.InterpolationMode.BICUBIC
        ),
        v2.RandomHorizontalFlip(),
    ]
    if recipe.augmentation == "strong":
        steps.append(v2.RandAugment(num_ops=2, magnitude=7, fill=127))
    varied: Callable[[Any], Any] = v2.Compose(steps)
    return varied


class EpochOrder(Sampler[int]):
    """The rows of an epoch, shuffled anew for each; rows of like length meet in a batch.

    It depends on nothing but its settings and `epoch`: all processes see the same order, and one that goes on
    from a checkpoint finds its place in it.
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
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self._draw(random))
        if self.lengths is not None:
            order = self._sort(order, self.lengths, random)
        return iter(order.tolist())

    def _draw(self, random: np.random.Generator) -> npt.NDArray[np.int64]:
        every = np.arange(self.rows)
        if self.known is None or self.known_share is None or self.known.all() or not self.known.any():
            return every
        old, new = every[self.known], every[~self.known]
        wanted = round(self.known_share * self.rows)
        return np.concatenate([_repeat(old, wanted, random), _repeat(new, self.rows - wanted, random)])

    def _sort(
        self, order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], random: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        batches: list[npt.NDArray[np.int64]] = []
        step = self.batch_size * BATCHES_TO_SORT
        for start in range(0, len(order), step):
            part = order[start : start + step]
            part = part[np.argsort(lengths[part], kind="stable")]
            batches += [part[at : at + self.batch_size] for at in range(0, len(part), self.batch_size)]
        # The one short batch, if any, stays last: a batch must not straddle two others.
        last = batches.pop() if len(batches[-1]) < self.batch_size else None
        shuffled = [batches[place] for place in random.permutation(len(batches))]
        return np.concatenate([*shuffled, *([last] if last is not None else [])])


def _repeat(rows: npt.NDArray[np.int64], wanted: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return `wanted` of the rows: each as often as the others, give or take one."""
    whole, rest = divmod(wanted, len(rows))
    return np.concatenate([np.tile(rows, whole), random.permutation(rows)[:rest]])
