"""Build the columns that drift compares from a batch of predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from feedback.statistics.drift.codes import DriftColumn, InputKind, embedding_column
from feedback.statistics.drift.input_features import PhotoFeatures, guess_language
from feedback.statistics.drift.summaries import FeatureBatch

Array = npt.NDArray[np.float32]

PROJECTED_DIMENSIONS = 32


@dataclass(frozen=True)
class Projection:
    """The reference's principal axes: an embedding (dim,) becomes its place along the `axes` (k, dim)."""

    mean: Array
    axes: Array

    @classmethod
    def fit(cls, embeddings: Array, dimensions: int = PROJECTED_DIMENSIONS) -> Self:
        """Return the axes of embeddings (n, dim); rows of NaN are left out. Raises ValueError without a row."""
        known = embeddings[np.isfinite(embeddings).all(axis=1)].astype(np.float64)
        if not len(known):
            raise ValueError("no embedding to fit a projection to")
        mean = known.mean(axis=0)
        _values, vectors = np.linalg.eigh(np.cov(known - mean, rowvar=False, bias=True))
        return cls(mean.astype(np.float32), vectors[:, ::-1][:, :dimensions].T.astype(np.float32))

    def apply(self, embeddings: Array) -> Array:
        """Return (n, k); rows of NaN stay so."""
        return np.asarray((embeddings - self.mean) @ self.axes.T)

    def arrays(self) -> dict[str, Array]:
        return {"mean": self.mean, "axes": self.axes}


def build_features(
    ids: Sequence[str],
    *,
    texts: Sequence[tuple[str, str]],
    looks: Sequence[PhotoFeatures | None],
    predicted: Sequence[str],
    confidence: Array,
    embeddings: Mapping[str, Array],
    projections: Mapping[str, Projection],
    chosen: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
    with_photo: Sequence[bool] | None = None,
) -> FeatureBatch:
    """Return the columns of a batch of n predictions.

    `texts` are titles and descriptions, `looks` None without a photograph; `predicted` and `confidence` the ensemble's
    likeliest category and its probability; `embeddings` {"text", "image"} (n, dim) with rows of NaN where there is
    none; `chosen` the categories that sellers or reviewers gave, None where nobody has. `languages` where they were
    guessed already; `with_photo` where there are photographs that nobody looked at.
    """
    lengths = np.array([len(title) + len(words) for title, words in texts], np.float64)
    with_text = lengths > 0
    photos = np.array(
        [(x.width * x.height, x.brightness, x.sharpness) if x else (np.nan,) * 3 for x in looks], np.float64
    ).reshape(-1, 3)
    seen = [x is not None for x in looks] if with_photo is None else with_photo
    categories: dict[str, Sequence[str | None]] = {
        DriftColumn.INPUTS: [_input_kind(bool(text), photo) for text, photo in zip(with_text, seen, strict=True)],
        DriftColumn.LANGUAGE: languages
        or [guess_language(f"{title} {words}") if title or words else None for title, words in texts],
        DriftColumn.PREDICTION: list(predicted),
    }
    if chosen is not None:
        categories[DriftColumn.LABEL] = list(chosen)
    numbers: dict[str, npt.NDArray[np.floating[Any]]] = {
        # Lengths and areas span decades; their logarithms don't let one novel outweigh a day.
        DriftColumn.TEXT_LENGTH: np.log(np.where(with_text, lengths, np.nan)),
        DriftColumn.PHOTO_SIZE: np.log(photos[:, 0]),
        DriftColumn.PHOTO_BRIGHTNESS: photos[:, 1],
        DriftColumn.PHOTO_SHARPNESS: photos[:, 2],
        DriftColumn.CONFIDENCE: np.asarray(confidence, np.float64),
    }
    vectors = {embedding_column(name): projections[name].apply(some) for name, some in embeddings.items()}
    return FeatureBatch(ids, numbers, categories, vectors)


def _input_kind(has_text: bool, has_photo: bool) -> InputKind:
    if has_text:
        return InputKind.TEXT_AND_PHOTO if has_photo else InputKind.TEXT
    return InputKind.PHOTO if has_photo else InputKind.NOTHING
