"""Detect out-of-distribution inputs: far from the training embeddings, and answered with little confidence."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Values = npt.NDArray[np.float64]

CENTRES = 256
STEPS = 1_000  # quantiles that are stored of the held-back rows' distributions
QUANTILE = 0.99
SEED = 18


@dataclass(frozen=True)
class CentroidDetector:
    """A detector of centres (k, dim) of the training embeddings, and of the scores of rows held back from training.

    `distances` and `doubts` (at most 1,000 each, ascending) are held-back rows' distances to the nearest centre and
    their 1 - top probability; `threshold` is the score that the stated share of them stays under.
    """

    centres: npt.NDArray[np.float32]
    distances: npt.NDArray[np.float32]
    doubts: npt.NDArray[np.float32]
    threshold: float

    @classmethod
    def fit(
        cls, training: Array, held_back: Array, confidence: Array, *, quantile: float = QUANTILE, centres: int = CENTRES
    ) -> Self:
        """Fit a detector to training embeddings (n, dim), held-back ones (m, dim) and their top probabilities (m,).

        It flags a share of 1 - `quantile` of in-distribution inputs. Rows of NaN are left out. Raises ValueError when
        too few are left to estimate that quantile.
        """
        from sklearn.cluster import MiniBatchKMeans

        known = np.asarray(training, np.float32)[np.isfinite(training).all(axis=1)]
        rows = np.isfinite(held_back).all(axis=1) & np.isfinite(confidence)
        held, sure = np.asarray(held_back, np.float32)[rows], np.asarray(confidence, np.float64)[rows]
        if not len(known) or len(held) < 1 / (1 - quantile):
            raise ValueError(f"{len(known)} training and {len(held)} held-back rows are too few for {quantile}")
        count = min(centres, math.ceil(len(known) / 4))
        means = MiniBatchKMeans(count, n_init=3, batch_size=4_096, random_state=SEED).fit(known).cluster_centers_
        far = _distances(held, means)
        plain = cls(means.astype(np.float32), _steps(far), _steps(1 - sure), 0.0)
        return cls(plain.centres, plain.distances, plain.doubts, float(np.quantile(plain.score(held, sure), quantile)))

    def score(self, embeddings: Array, confidence: Array) -> Values:
        """Return each input's score (n,), higher if more unusual, in nats; NaN where an argument is NaN.

        Embeddings of another width than the centres' come from another model: all scores are NaN.

        The sum of -ln of two shares: of held-back rows at least as far from every centre, and of those answered with
        at least as much doubt, as by Fisher's method of combining tests; neither share is taken below one row's.
        """
        scores = np.full(len(embeddings), np.nan)
        if embeddings.shape[1:] != self.centres.shape[1:]:
            return scores
        known = np.isfinite(embeddings).all(axis=1) & np.isfinite(confidence)
        if known.any():
            far = _distances(np.asarray(embeddings[known], np.float32), self.centres)
            doubt = (1 - np.asarray(confidence[known], np.float64)).astype(np.float32)
            scores[known] = _rarity(far, self.distances) + _rarity(doubt, self.doubts)
        return scores

    def flags(self, embeddings: Array, confidence: Array) -> npt.NDArray[np.bool_]:
        """Return which inputs are out-of-distribution, (n,); one whose score is NaN is not."""
        return np.asarray(self.score(embeddings, confidence) > self.threshold)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that `from_arrays` reads, ready for safetensors; the centres in half precision."""
        threshold = np.array([self.threshold], np.float32)
        return {
            "centres": self.centres.astype(np.float16),
            "distances": self.distances,
            "doubts": self.doubts,
            "threshold": threshold,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> Self:
        return cls(
            arrays["centres"].astype(np.float32), arrays["distances"], arrays["doubts"], float(arrays["threshold"][0])
        )


def _distances(embeddings: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return each row's Euclidean distance to the nearest centre."""
    products = embeddings @ centres.T
    squares = (embeddings**2).sum(axis=1)[:, None] - 2 * products + (centres**2).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(squares.min(axis=1), 0.0)), np.float32)


def _steps(values: Array) -> npt.NDArray[np.float32]:
    count = min(len(values), STEPS)
    return np.quantile(values, (np.arange(count) + 0.5) / count).astype(np.float32)


def _rarity(values: npt.NDArray[np.float32], ordinary: npt.NDArray[np.float32]) -> Values:
    at_least = len(ordinary) - np.searchsorted(ordinary, values, side="left")
    return np.asarray(-np.log((at_least + 1) / (len(ordinary) + 1)))
