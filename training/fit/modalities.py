"""Read, embed and predict texts and photos: what differs between the two modalities of a fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from classifier.ml.encoders import load_image_backbone, load_text_backbone, pick_device
from classifier.ml.image_model import ImageEncoder, ImageModel
from classifier.ml.ngrams import LogitPool
from classifier.ml.text_model import LengthScales, LogitParts, TextEncoder, TextModel, combine_logits
from training.fit import features, process_group
from training.fit.batches import PhotoRows, RowTargets, TokenRows, TrainingRows
from training.fit.features import Floats
from training.fit.job import Job, SplitTable
from training.fit.networks import ImageBody, TextBody
from training.fit.progress import Progress
from training.fit.recipes import ImageRecipe, Recipe, TextRecipe
from training.fit.stage_codes import RunStage
from training.fit.stages import Stage


@dataclass(frozen=True)
class SplitLogits:
    """The logits (n, classes) of an artifact's parts for a split's rows, before pool, length scales and temperature.

    `words` (n,) int64 is the length of each text.
    """

    encoder: Tensor
    lexical: Tensor | None = None
    words: Tensor | None = None

    def combine(self, pool: LogitPool | None, scales: LengthScales | None) -> Tensor:
        """Return the logits (n, classes) of all parts, scaled by the texts' lengths."""
        if self.words is None:
            return self.encoder
        return combine_logits(LogitParts(self.encoder, torch.empty(0), self.words, self.lexical), pool, scales)


class ModalityFitting(Protocol):
    """One modality of a job. `encoder` is the one to begin with: the backbone, or that of the live model."""

    encoder: nn.Module

    def pretrained(self) -> dict[str, Tensor]:
        """Return the backbone's own weights."""

    def embeddings(self, split: str) -> Floats:
        """Return the encoder's embeddings (n, dim) of the split."""

    def rows(self, split: str, targets: RowTargets, recipe: Recipe) -> TrainingRows:
        """Return the encoder's inputs of the split; those of the training split augmented as the recipe says."""

    def body(self, encoder: nn.Module) -> nn.Module:
        """Return the encoder as a network's body."""

    def predict_split(self, folder: Path, split: str) -> SplitLogits:
        """Return the logits of the artifact in `folder`, computed as in serving; each process computes a share."""


class TextFitting:
    """The text modality of a job."""

    def __init__(self, job: Job, tables: dict[str, SplitTable], start: TextModel | None, progress: Progress) -> None:
        """Raises TypeError for a job whose recipe is of another modality."""
        recipe = job.recipe
        if not isinstance(recipe, TextRecipe):
            raise TypeError(f"A text fit needs a text recipe, not {type(recipe).__name__}.")
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

    def rows(self, split: str, targets: RowTargets, recipe: Recipe) -> TokenRows:
        tokenizer = self.reader.tokenizer
        stage = self._stage(f"tokens-{split}")
        tokens = features.tokenize_table(self.tables[split], tokenizer, self.recipe.max_tokens, stage, self.progress)
        dropout = recipe.token_dropout if split == "train" and isinstance(recipe, TextRecipe) else 0.0
        return TokenRows(tokens, targets, padding=int(tokenizer.pad_token_id or 0), dropout=dropout)

    def body(self, encoder: nn.Module) -> nn.Module:
        return TextBody(encoder)

    def predict_split(self, folder: Path, split: str) -> SplitLogits:
        # Loaded from the folder, so that rounding to half precision and int8 is part of every figure.
        model, table = TextModel.load(folder), self.tables[split]
        own_rows = process_group.share_of_rows(range(len(table)))
        encoder, lexical, words = [], [], []
        self.progress.start_stage(RunStage(f"predict_{split}"), len(own_rows))
        for start, end in _row_spans(own_rows, features.TEXTS_PER_STEP):
            parts = model.parts(*features.read_texts(table, start, end))
            encoder.append(parts.encoder.cpu().numpy())
            words.append(parts.words.numpy())
            if parts.lexical is not None:
                lexical.append(parts.lexical.cpu().numpy())
            self.progress.report_step(end - own_rows[0], items=process_group.world_size())
        return SplitLogits(_gather_rows(encoder), _gather_rows(lexical) if model.lexical else None, _gather_rows(words))

    def _stage(self, name: str) -> Stage:
        return _shared_stage(self.job, name, self.recipe.backbone, self.recipe.max_tokens, self.recipe.everyday_titles)


class ImageFitting:
    """The image modality of a job."""

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
        stage = _shared_stage(self.job, f"embeddings-{split}", self.recipe.backbone, self.reader.preprocess.view)
        return features.embed_images(self.tables[split], self.reader, stage, self.progress)

    def rows(self, split: str, targets: RowTargets, recipe: Recipe) -> PhotoRows:
        augmentation = recipe if split == "train" and isinstance(recipe, ImageRecipe) else None
        return PhotoRows(self.tables[split], targets, self.reader.preprocess, augmentation)

    def body(self, encoder: nn.Module) -> nn.Module:
        return ImageBody(encoder, self.reader.preprocess)

    def predict_split(self, folder: Path, split: str) -> SplitLogits:
        model, table = ImageModel.load(folder), self.tables[split]
        own_rows = process_group.share_of_rows(range(len(table)))
        logits = []
        self.progress.start_stage(RunStage(f"predict_{split}"), len(own_rows))
        for start, end in _row_spans(own_rows, features.IMAGES_PER_STEP):
            logits.append(model.parts(features.read_images(table, range(start, end)))[0].cpu().numpy())
            self.progress.report_step(end - own_rows[0], items=process_group.world_size())
        return SplitLogits(_gather_rows(logits))


def _row_spans(rows: Sequence[int], step: int) -> Iterator[tuple[int, int]]:
    """Yield the consecutive rows as spans (first, last + 1) of at most `step` rows."""
    for place in range(0, len(rows), step):
        yield rows[place], rows[min(place + step, len(rows)) - 1] + 1


def _gather_rows(batches: list[Any]) -> Tensor:
    """Return all processes' rows in their order; a process whose share was empty gives None."""
    shares = process_group.gather_all(np.concatenate(batches) if batches else None)
    return torch.from_numpy(np.concatenate([share for share in shares if share is not None]))


def _shared_stage(job: Job, name: str, *settings: object) -> Stage:
    """Return the stage of something that depends on the corpus, the start and a few settings only.

    Its folder lies outside the recipe's, so all tuning trials use it.
    """
    return Stage(job.workdir / "stages" / name, job.fingerprint(*settings))
