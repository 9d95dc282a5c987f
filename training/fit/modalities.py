"""What differs between text and pictures: how they are read, embedded, and answered by a finished artifact."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from classifier.ml.encoders import load_image_backbone, load_text_backbone, pick_device
from classifier.ml.image_model import ImageEncoder, ImageModel
from classifier.ml.text_model import TextEncoder, TextModel
from training.fit import features, process_group
from training.fit.batches import PhotoRows, RowTargets, TokenRows, TrainingRows
from training.fit.features import Floats
from training.fit.job import Job, SplitTable
from training.fit.networks import ImageBody, TextBody
from training.fit.progress import Progress
from training.fit.recipes import ImageRecipe, Recipe, TextRecipe
from training.fit.stages import Stage


@dataclass(frozen=True)
class SplitLogits:
    """What the parts of an artifact say of a split's rows, before pool and temperature: logits (n, classes)."""

    encoder: Tensor
    lexical: Tensor | None


class ModalityFitting(Protocol):
    """One modality of a job. `encoder` is the one to begin with: the backbone, or that of the model we go on from."""

    encoder: nn.Module

    def pretrained(self) -> dict[str, Tensor]:
        """Return the backbone's own weights."""

    def embeddings(self, split: str) -> Floats:
        """Return the encoder's embeddings (n, dim) of the split."""

    def rows(self, split: str, goals: RowTargets, recipe: Recipe) -> TrainingRows:
        """Return what the encoder reads of the split; the training part varied as the recipe says."""

    def body(self, encoder: nn.Module) -> nn.Module:
        """Return the encoder as a network's body."""

    def answers(self, folder: Path, split: str) -> SplitLogits:
        """Return what the artifact in `folder` says of the split, computed as in serving; each process a share."""


class TextFitting:
    def __init__(self, job: Job, tables: dict[str, SplitTable], start: TextModel | None, progress: Progress) -> None:
        recipe = job.recipe
        assert isinstance(recipe, TextRecipe)  # noqa: S101 - a job has the recipe of its modality
        self.job, self.tables, self.recipe, self.progress = job, tables, recipe, progress
        self.reader = TextEncoder(recipe.backbone, recipe.max_tokens, pick_device(None))
        if start:
            self.reader.encoder.load_state_dict(start.encoder.encoder.state_dict())
        self.encoder = self.reader.encoder

    def pretrained(self) -> dict[str, Tensor]:
        return load_text_backbone(self.recipe.backbone)[1].state_dict()

    def embeddings(self, split: str) -> Floats:
        stage = self._stage(f"embeddings-{split}")
        return features.embed_texts(self.tables[split], self.reader, stage, self.progress)

    def rows(self, split: str, goals: RowTargets, recipe: Recipe) -> TokenRows:
        tokenizer = self.reader.tokenizer
        stage = self._stage(f"tokens-{split}")
        tokens = features.tokenize_table(self.tables[split], tokenizer, self.recipe.max_tokens, stage, self.progress)
        dropout = recipe.token_dropout if split == "train" and isinstance(recipe, TextRecipe) else 0.0
        return TokenRows(tokens, goals, padding=int(tokenizer.pad_token_id or 0), dropout=dropout)

    def body(self, encoder: nn.Module) -> nn.Module:
        return TextBody(encoder)

    def answers(self, folder: Path, split: str) -> SplitLogits:
        model, table = TextModel.load(folder), self.tables[split]
        mine = process_group.share_of_rows(range(len(table)))
        encoder, lexical = [], []
        self.progress.stage(f"answers for the {split} part", len(mine))
        for start, end in _steps(mine, features.TEXTS_PER_STEP):
            parts = model.parts(*features.read_texts(table, start, end))
            encoder.append(parts.encoder.cpu().numpy())
            if parts.lexical is not None:
                lexical.append(parts.lexical.cpu().numpy())
            self.progress.step(end - mine[0], items=process_group.world_size())
        return SplitLogits(_gathered(encoder), _gathered(lexical) if model.lexical else None)

    def _stage(self, name: str) -> Stage:
        return _cache(self.job, name, self.recipe.backbone, self.recipe.max_tokens)


class ImageFitting:
    def __init__(self, job: Job, tables: dict[str, SplitTable], start: ImageModel | None, progress: Progress) -> None:
        self.job, self.tables, self.recipe, self.progress = job, tables, job.recipe, progress
        view = job.recipe.view if isinstance(job.recipe, ImageRecipe) else "middle"
        self.reader = ImageEncoder(job.recipe.backbone, pick_device(None), view)
        if start:
            self.reader.encoder.load_state_dict(start.encoder.encoder.state_dict())
        self.encoder = self.reader.encoder

    def pretrained(self) -> dict[str, Tensor]:
        return load_image_backbone(self.recipe.backbone)[0].state_dict()

    def embeddings(self, split: str) -> Floats:
        stage = _cache(self.job, f"embeddings-{split}", self.recipe.backbone, self.reader.preprocess.view)
        return features.embed_images(self.tables[split], self.reader, stage, self.progress)

    def rows(self, split: str, goals: RowTargets, recipe: Recipe) -> PhotoRows:
        varied = recipe if split == "train" and isinstance(recipe, ImageRecipe) else None
        return PhotoRows(self.tables[split], goals, self.reader.preprocess, varied)

    def body(self, encoder: nn.Module) -> nn.Module:
        return ImageBody(encoder, self.reader.preprocess)

    def answers(self, folder: Path, split: str) -> SplitLogits:
        model, table = ImageModel.load(folder), self.tables[split]
        mine = process_group.share_of_rows(range(len(table)))
        logits = []
        self.progress.stage(f"answers for the {split} part", len(mine))
        for start, end in _steps(mine, features.IMAGES_PER_STEP):
            logits.append(model.parts(features.read_images(table, range(start, end)))[0].cpu().numpy())
            self.progress.step(end - mine[0], items=process_group.world_size())
        return SplitLogits(_gathered(logits), None)


def _steps(rows: Any, step: int) -> Iterator[tuple[int, int]]:
    for place in range(0, len(rows), step):
        yield rows[place], rows[min(place + step, len(rows)) - 1] + 1


def _gathered(parts: list[Any]) -> Tensor:
    shares = process_group.gather_all(np.concatenate(parts) if parts else None)
    return torch.from_numpy(np.concatenate([share for share in shares if share is not None]))


def _cache(job: Job, name: str, *settings: object) -> Stage:
    """Return the stage of something that follows from the corpus, the start and a few settings only."""
    return Stage(job.workdir / "stages" / name, job.fingerprint(*settings))
