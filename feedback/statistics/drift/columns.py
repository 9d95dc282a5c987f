"""Build the columns that drift compares from a batch of predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from feedback.statistics.drift.codes import DriftColumn, InputKind, embedding_column
from feedback.statistics.drift.input_features import PhotoFeatures
from feedback.statistics.drift.language import guess_language
from feedback.statistics.drift.summaries import FeatureBatch

Array = npt.NDArray[np.float32]

PROJECTED_DIMENSIONS = 32


@dataclass(frozen=True)
class Projection:
    """The reference's principal axes: `mean` (dim,) and `axes` (k, dim)."""

    mean: Array
    axes: Array

    @classmethod
    def fit(cls, embeddings: Array, dimensions: int = PROJECTED_DIMENSIONS) -> Self:
        """Return the principal axes of embeddings (n, dim) without rows of NaN. Raises ValueError without a row."""
        known = embeddings[np.isfinite(embeddings).all(axis=1)].astype(np.float64)
        if not len(known):
            raise ValueError("no embedding to fit a projection to")
        mean = known.mean(axis=0)
        _values, vectors = np.linalg.eigh(np.cov(known - mean, rowvar=False, bias=True))
        return cls(mean.astype(np.float32), vectors[:, ::-1][:, :dimensions].T.astype(np.float32))

    def apply(self, embeddings: Array) -> Array:
        """Return the coordinates (n, k) of embeddings (n, dim); rows of NaN stay NaN."""
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

    `texts` are titles and descriptions. `looks` are the features of the photos, None without one; `with_photo` is given
    where photos exist whose features were not measured. `predicted` and `confidence` are the ensemble's likeliest
    category and its probability, `embeddings` {"text", "image"} (n, dim) with rows of NaN where there is none. `chosen`
    are the categories of sellers or reviewers, None without an answer; `languages` are given where they were guessed
    before.
    """
    lengths = np.array([len(title) + len(description) for title, description in texts], np.float64)
    with_text = lengths > 0
    photos = _photo_columns(looks)
    has_photo = [features is not None for features in looks] if with_photo is None else with_photo
    categories: dict[str, Sequence[str | None]] = {
        DriftColumn.INPUTS: [_input_kind(bool(text), photo) for text, photo in zip(with_text, has_photo, strict=True)],
        DriftColumn.LANGUAGE: languages or [_guess_language(title, description) for title, description in texts],
        DriftColumn.PREDICTION: list(predicted),
    }
    if chosen is not None:
        categories[DriftColumn.LABEL] = list(chosen)
    numbers: dict[str, npt.NDArray[np.floating[Any]]] = {
        # Lengths and areas span decades: without the logarithm one very long text would outweigh a day.
        DriftColumn.TEXT_LENGTH: np.log(np.where(with_text, lengths, np.nan)),
        DriftColumn.PHOTO_SIZE: np.log(photos[:, 0]),
        DriftColumn.PHOTO_BRIGHTNESS: photos[:, 1],
        DriftColumn.PHOTO_SHARPNESS: photos[:, 2],
        DriftColumn.CONFIDENCE: np.asarray(confidence, np.float64),
    }
    vectors = {embedding_column(name): projections[name].apply(values) for name, values in embeddings.items()}
    return FeatureBatch(ids, numbers, categories, vectors)


def _photo_columns(looks: Sequence[PhotoFeatures | None]) -> npt.NDArray[np.float64]:
    """Return area, brightness and sharpness (n, 3) of photos; rows of NaN where there is none."""
    columns = np.full((len(looks), 3), np.nan)
    for row, features in enumerate(looks):
        if features is not None:
            columns[row] = features.width * features.height, features.brightness, features.sharpness
    return columns


def _guess_language(title: str, description: str) -> str | None:
    return guess_language(f"{title} {description}") if title or description else None


def _input_kind(has_text: bool, has_photo: bool) -> InputKind:
    if has_text:
        return InputKind.TEXT_AND_PHOTO if has_photo else InputKind.TEXT
    return InputKind.PHOTO if has_photo else InputKind.NOTHING
