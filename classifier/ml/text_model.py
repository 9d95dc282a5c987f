"""Classify products by title and description: a sentence encoder with a head, pooled with a lexical part."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from classifier.ml.artifact import CONFIG, ArtifactError, read_config
from classifier.ml.classifier import BatchOutput, ProductInput
from classifier.ml.encoders import (
    calibrate_logits,
    load_fine_tuned,
    load_head,
    load_text_backbone,
    pick_device,
    read_tensors,
)
from classifier.ml.engines import Batch, Engine, TorchEngine, input_threads
from classifier.ml.ngrams import LexicalModel, LogitPool
from common.text import clean_description, clean_title

__all__ = [
    "LengthScales",
    "LogitParts",
    "TextEncoder",
    "TextModel",
    "TextNetwork",
    "combine_logits",
    "join_text",
]

# Far more than a window of 128 tokens holds; cutting first keeps a pasted book from costing seconds in the tokenizer.
DESCRIPTION_CHARACTERS = 2_000

# Padded tokens and texts per forward pass of the reference: keeps the activations of a batch near 100 MB.
TOKENS_PER_PASS = 8_192
TEXTS_PER_PASS = 512

SAMPLES = ((1, 3), (3, 12), (8, 40), (4, 150))  # texts of each sample batch, and their words
WORDS = "blue red cotton steel 12 V for women and men baby phone guitar organic tea, 500 g (new) with case & battery"


class TextNetwork(nn.Module):
    """A transformer with mean pooling."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit embeddings (n, dim) float32 of token ids (n, length) whose mask is 1, int64."""
        states: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return normalize(mean.float(), dim=1)


class TextEncoder:
    """A frozen transformer with mean pooling, and the engine that computes it."""

    inputs = ("input_ids", "attention_mask")

    def __init__(self, backbone: str, max_tokens: int, device: torch.device) -> None:
        """Raises ArtifactError when the backbone cannot be loaded."""
        self.tokenizer, encoder = load_text_backbone(backbone)
        self.network = TextNetwork(encoder)
        self.engine: Engine = TorchEngine(self.network, device, rows=TEXTS_PER_PASS)
        self.max_tokens = max_tokens
        self.device = device
        self._tokenizing = Lock()  # a tokenizer refuses to be used by two threads at once

    @property
    def encoder(self) -> nn.Module:
        return self.network.encoder

    def use(self, engine: Engine) -> None:
        self.engine = engine
        del self.network

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings (n, dim) float32 in the given order. Raises ValueError for none."""
        if not texts:
            raise ValueError("the batch is empty")
        ids = self._tokens(texts)
        # Texts of similar length share a pass, so that little padding is computed.
        order = sorted(range(len(texts)), key=lambda row: (len(ids[row]), row))
        # A small batch is split as well, so that no stream stays idle.
        most = min(self.engine.rows, math.ceil(len(texts) / self.engine.streams))
        passes = _passes(order, [len(row) for row in ids], most)
        embeddings = self.engine.run(self._batch([ids[row] for row in rows]) for rows in passes)
        # Rows ran from short to long; argsort of that order puts them back.
        return torch.cat(embeddings)[torch.tensor(order, device=self.device).argsort()]

    def samples(self) -> list[Batch]:
        words = cycle(WORDS.split())
        texts = [[" ".join(islice(words, length)) for _ in range(count)] for count, length in SAMPLES]
        return [self._batch(self._tokens(some)) for some in texts]

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        with self._tokenizing:
            ids: list[list[int]] = self.tokenizer(
                list(texts), truncation=True, max_length=self.max_tokens, padding=False
            )["input_ids"]
        return ids

    def _batch(self, ids: Sequence[list[int]]) -> Batch:
        """Return ids and mask, (n, length) int64, padded at the end."""
        longest, step = max(map(len, ids)), self.engine.step
        length = max(longest, min(math.ceil(longest / step) * step, self.max_tokens))
        tokens = np.full((len(ids), length), self.tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros((len(ids), length), np.int64)
        for row, text in enumerate(ids):
            tokens[row, : len(text)] = text
            mask[row, : len(text)] = 1
        return torch.from_numpy(tokens), torch.from_numpy(mask)


@dataclass(frozen=True)
class LengthScales:
    """What logits are divided by, before the temperature, according to how many words a text has.

    `most_words` are the upper ends of all ranges but the last, ascending; `divisors` has one for each range. A title
    of two words says less than a page, and a model that learnt from both is too confident of the title.
    """

    most_words: tuple[int, ...]
    divisors: tuple[float, ...]

    def __call__(self, logits: Tensor, words: Tensor) -> Tensor:
        """Return the scaled logits (n, classes) of texts with so many words, (n,) int64."""
        ends = torch.tensor(self.most_words, dtype=torch.int64)
        divisors = torch.tensor(self.divisors, dtype=torch.float64)[torch.bucketize(words, ends)]
        return logits / divisors.to(logits.device).unsqueeze(1)

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "LengthScales | None":
        """Return the scales of config.json, None where it has none. Raises ArtifactError when they are unusable."""
        values = config.get("length_scales")
        if values is None:
            return None
        try:
            scales = cls(tuple(map(int, values["most_words"])), tuple(map(float, values["divisors"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{CONFIG}: length_scales is unusable ({error})") from error
        if len(scales.divisors) != len(scales.most_words) + 1 or sorted(set(scales.most_words)) != [*scales.most_words]:
            raise ArtifactError(f"{CONFIG}: length_scales must hold ascending ranges and a divisor for each")
        if not all(math.isfinite(divisor) and divisor > 0 for divisor in scales.divisors):
            raise ArtifactError(f"{CONFIG}: length_scales must hold positive divisors")
        return scales


@dataclass(frozen=True)
class LogitParts:
    """The logits (n, classes) of a text model's parts and unit embeddings (n, dim), on the model's device.

    `words` (n,) int64 is the length of each text.
    """

    encoder: Tensor
    embeddings: Tensor
    words: Tensor
    lexical: Tensor | None = None


class TextModel:
    """A frozen or fine-tuned encoder with a head, alone or pooled with a lexical part."""

    def __init__(
        self,
        encoder: TextEncoder,
        head: nn.Module,
        labels: list[str],
        temperature: float,
        lexical: LexicalModel | None = None,
        pool: LogitPool | None = None,
        length_scales: LengthScales | None = None,
    ) -> None:
        """Raises ValueError when only one of the lexical part and the pool is given."""
        if (lexical is None) != (pool is None):
            raise ValueError("a lexical part and a pool belong together")
        self.encoder = encoder
        self.head = head
        self.labels = labels
        self.temperature = temperature
        self.lexical = lexical
        self.pool = pool
        self.length_scales = length_scales

    @property
    def engine(self) -> str:
        """The name of what computes the encoder: library, precision and device."""
        return self.encoder.engine.name

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> "TextModel":
        """Return the model in `folder`, on the GPU if there is one. Raises ArtifactError if unusable."""
        config = read_config(folder)
        if config["modality"] != "text":
            raise ArtifactError(f"config.json: a model for {config['modality']}, not for text, in {folder}")
        target = pick_device(device)
        tensors = read_tensors(folder)
        encoder = TextEncoder(config["backbone"], int(config.get("max_tokens", 128)), target)
        load_fine_tuned(encoder.encoder, tensors)
        head = load_head(tensors, config).to(target)
        labels = list(config["labels"])
        lexical = LexicalModel.read(tensors, len(labels), target)
        pool = LogitPool.read(config) if lexical else None
        scales = LengthScales.read(config)
        return cls(encoder, head, labels, float(config["temperature"]), lexical, pool, scales)

    def predict(self, products: Sequence[ProductInput]) -> BatchOutput:
        """Return the output for the products' texts. Raises ValueError for an empty batch."""
        titles = [product.title for product in products]
        return self.predict_texts(titles, [product.description for product in products])

    @torch.inference_mode()
    def predict_texts(self, titles: Sequence[str], descriptions: Sequence[str]) -> BatchOutput:
        """Return probabilities (n, classes) float32, rows summing to 1, and unit embeddings (n, dim) float32.

        Either text of a product may be empty. Raises ValueError for an empty batch or unequal lengths.
        """
        parts = self.parts(titles, descriptions)
        return calibrate_logits(self.combine(parts), parts.embeddings, self.temperature)

    @torch.inference_mode()
    def parts(self, titles: Sequence[str], descriptions: Sequence[str]) -> LogitParts:
        """Return each part's logits, before pool, scales and temperature. Raises as `predict_texts`."""
        if len(titles) != len(descriptions):
            raise ValueError(f"{len(titles)} titles but {len(descriptions)} descriptions")
        counted = input_threads().submit(self.lexical.logits, titles, descriptions) if self.lexical else None
        texts = [join_text(*pair) for pair in zip(titles, descriptions, strict=True)]
        embeddings = self.encoder.encode(texts)
        words = torch.tensor([len(text.split()) for text in texts])
        return LogitParts(self.head(embeddings), embeddings, words, counted.result() if counted else None)

    def combine(self, parts: LogitParts) -> Tensor:
        """Return logits (n, classes) before the temperature."""
        return combine_logits(parts, self.pool, self.length_scales)


def combine_logits(parts: LogitParts, pool: LogitPool | None, scales: LengthScales | None) -> Tensor:
    """Return the logits (n, classes) of both parts, scaled by the texts' lengths."""
    logits = parts.encoder
    if pool is not None and parts.lexical is not None:
        logits = pool(parts.lexical, parts.encoder)
    return scales(logits, parts.words) if scales else logits


def join_text(title: str, description: str) -> str:
    """Return what the encoder reads of one product: the title first, because the window may end before the rest.

    Both texts are cleaned here too, so that training and serving read the same, whatever wrote the rows.
    """
    title = clean_title(title)
    description = clean_description(description)[:DESCRIPTION_CHARACTERS].strip()
    return f"{title}\n{description}" if title and description else title or description


def _passes(order: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield rows, already sorted by length, in groups of at most `most` whose padded size stays under the budget."""
    rows: list[int] = []
    for row in order:
        if rows and (len(rows) == most or lengths[row] * (len(rows) + 1) > TOKENS_PER_PASS):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
