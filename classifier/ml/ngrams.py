"""Classify texts by a linear layer over hashed words and character n-grams: the lexical part of a text model.

It uses what a word-piece encoder loses: brands, model numbers, sizes, typing errors. N-grams are identified by a hash,
so that no vocabulary is stored; the artifact holds the selected hashes in order, with one weight a class for each.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from classifier.ml.artifact import CONFIG, WEIGHTS, ArtifactError
from common.text import clean_description, clean_title

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

LEXICAL = "lexical."

# Words (one and two in a row) and characters (three to five within a word); each block is normalised on its own.
BLOCKS = ("words", "characters")

# Large enough that hardly any two n-grams share a hash, and a hash still fits into int32.
HASHES = 2**31 - 1

# Beyond this a description adds n-grams by the hundred and hardly a new word.
DESCRIPTION_CHARACTERS = 1_000


@dataclass(frozen=True)
class LogitPool:
    """The combination of a text model's parts: log p = lexical * log p_l + encoder * log p_e + bias."""

    lexical: float
    encoder: float
    bias: tuple[float, ...] = ()

    def __call__(self, lexical: Tensor, encoder: Tensor) -> Tensor:
        """Return log-probabilities (n, classes) float64 from both parts' logits (n, classes)."""
        both = self.lexical * lexical.double().log_softmax(dim=1) + self.encoder * encoder.double().log_softmax(dim=1)
        if self.bias:
            both = both + torch.tensor(self.bias, dtype=torch.float64, device=both.device)
        return both.log_softmax(dim=1)

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "LogitPool":
        """Return the pool of config.json. Raises ArtifactError when it is missing or not numeric."""
        try:
            values = config["pool"]
            pool = cls(float(values["lexical"]), float(values["encoder"]), tuple(map(float, values.get("bias", ()))))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{CONFIG}: pool is missing or unusable ({error})") from error
        if not np.isfinite([pool.lexical, pool.encoder, *pool.bias]).all():
            raise ArtifactError(f"{CONFIG}: pool must hold finite numbers")
        if pool.bias and len(pool.bias) != len(config["labels"]):
            raise ArtifactError(f"{CONFIG}: pool has {len(pool.bias)} biases for {len(config['labels'])} labels")
        return pool


def lexical_text(title: str, description: str) -> str:
    """Return what the lexical part reads of one product: the title twice, so that it weighs more."""
    title, description = clean_title(title), clean_description(description)[:DESCRIPTION_CHARACTERS]
    return re.sub(r"\s+", " ", f"{title} {title} {description}").strip()


def count_ngrams(texts: Sequence[str]) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Return how often each n-gram occurs, (n, HASHES) for words and for characters, float32."""
    words, characters = (vectorizer.transform(texts) for vectorizer in _vectorizers())
    return words, characters


def weigh_counts(counts: sparse.csr_matrix, keys: Ints, idf: Floats) -> sparse.csr_matrix:
    """Return the features of one block, (n, len(keys)) float32: (1 + ln count) * idf, each row of length one.

    N-grams that are not among `keys` (sorted) are left out. A row without any stays empty.
    """
    if len(keys) == 0:
        return sparse.csr_matrix((counts.shape[0], 0), dtype=np.float32)
    places = np.minimum(np.searchsorted(keys, counts.indices), len(keys) - 1)
    known = keys[places] == counts.indices
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[known]
    columns = places[known].astype(np.int32)
    values = (1 + np.log(counts.data[known])) * idf[columns]
    lengths = np.sqrt(np.bincount(rows, weights=np.square(values, dtype=np.float64), minlength=counts.shape[0]))
    values = (values / lengths[rows]).astype(np.float32)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=counts.shape[0]))]).astype(np.int64)
    return sparse.csr_matrix((values, columns, ends), shape=(counts.shape[0], len(keys)))


class LexicalModel:
    """A linear layer over hashed n-grams."""

    def __init__(
        self, keys: tuple[Ints, Ints], idf: Floats, weights: Tensor, bias: Tensor, device: torch.device | None = None
    ) -> None:
        """`keys` are sorted, words then characters; idf (rows,), weights (rows, classes), bias (classes,)."""
        self.keys = keys
        self.idf = idf
        self.weights = weights.float().to(device)
        self.bias = bias.float().to(device)

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], classes: int, device: torch.device) -> "LexicalModel | None":
        """Return the artifact's lexical part, or None when it has none. Raises ArtifactError if it is unusable."""
        if LEXICAL + "weights" not in tensors:
            return None
        try:
            words, characters = (tensors[LEXICAL + name].numpy().astype(np.int32) for name in BLOCKS)
            idf = tensors[LEXICAL + "idf"].float().numpy()
            weights = tensors[LEXICAL + "weights"].float() * tensors[LEXICAL + "scales"].float().unsqueeze(1)
            bias = tensors[LEXICAL + "bias"]
        except (KeyError, RuntimeError, IndexError) as error:
            raise ArtifactError(f"{WEIGHTS}: the lexical part is incomplete ({error})") from error
        rows = len(words) + len(characters)
        if weights.shape != (rows, classes) or idf.shape != (rows,) or bias.shape != (classes,):
            raise ArtifactError(f"{WEIGHTS}: the lexical part does not fit config.json")
        if any((np.diff(keys) <= 0).any() for keys in (words, characters)):
            raise ArtifactError(f"{WEIGHTS}: the lexical part's hashes are out of order")
        return cls((words, characters), idf, weights, bias, device)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that an artifact stores: weights as int8 with one scale a row, idf in half precision."""
        largest = self.weights.abs().amax(dim=1).clamp(min=1e-6).cpu()
        scales = (largest / 127).half()
        # Half precision may round the scale down; the largest weight then needs more than 127 steps and is clipped.
        steps = (self.weights.cpu() / scales.float().clamp(min=1e-8).unsqueeze(1)).round().clamp(-127, 127)
        return {
            **{LEXICAL + name: torch.from_numpy(keys) for name, keys in zip(BLOCKS, self.keys, strict=True)},
            LEXICAL + "idf": torch.from_numpy(self.idf).half(),
            LEXICAL + "weights": steps.to(torch.int8),
            LEXICAL + "scales": scales,
            LEXICAL + "bias": self.bias.cpu(),
        }

    def features(self, counts: tuple[sparse.csr_matrix, sparse.csr_matrix]) -> sparse.csr_matrix:
        """Return the features (n, rows) of counted texts, float32."""
        middle = len(self.keys[0])
        words = weigh_counts(counts[0], self.keys[0], self.idf[:middle])
        characters = weigh_counts(counts[1], self.keys[1], self.idf[middle:])
        return sparse.hstack([words, characters], format="csr")

    @torch.inference_mode()
    def logits(self, titles: Sequence[str], descriptions: Sequence[str]) -> Tensor:
        """Return logits (n, classes) float32. Raises ValueError for an empty batch."""
        if not titles:
            raise ValueError("the batch is empty")
        return self.score(count_ngrams([lexical_text(*pair) for pair in zip(titles, descriptions, strict=True)]))

    @torch.inference_mode()
    def score(self, counts: tuple[sparse.csr_matrix, sparse.csr_matrix]) -> Tensor:
        """Return logits (n, classes) float32 of counted texts."""
        features, device = self.features(counts), self.weights.device
        bags = embedding_bag(
            torch.from_numpy(features.indices.astype(np.int64)).to(device),
            self.weights,
            torch.from_numpy(features.indptr[:-1].astype(np.int64)).to(device),
            per_sample_weights=torch.from_numpy(features.data).to(device),
            mode="sum",
        )
        return bags + self.bias


@cache
def _vectorizers() -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import HashingVectorizer

    shared: dict[str, Any] = {"n_features": HASHES, "alternate_sign": False, "norm": None, "dtype": np.float32}
    return (
        HashingVectorizer(ngram_range=(1, 2), **shared),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **shared),
    )
