"""How two models' opinions become one answer. Numpy only: web processes import this."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def combine(
    text: Array | None,
    image: Array | None,
    *,
    text_weight: float,
    image_weight: float,
    temperature: float = 1.0,
) -> Array:
    """Return the weighted mean of both models' probabilities, (n, classes) float32, rows summing to 1.

    The weights are the models' registered accuracies. The mean of two calibrated forecasts is less sure than it
    should be (Ranjan and Gneiting 2010, theorem 1), so it is raised to 1 / temperature, fitted for the pair. Either
    side may be None; the other then answers alone, unchanged. Columns of both must already be in the same order
    (see `align`). Raises ValueError when both are missing, the shapes differ or are not (n, classes), a weight or
    the temperature is not positive, or a row cannot be normalised.
    """
    for name, value in (("text_weight", text_weight), ("image_weight", image_weight), ("temperature", temperature)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, not {value}")
    if text is None:
        if image is None:
            raise ValueError("both the text and the image probabilities are missing")
        return _normalised(image)
    if image is None:
        return _normalised(text)
    if text.shape != image.shape:
        raise ValueError(f"text has shape {text.shape}, image has {image.shape}")
    total = text_weight + image_weight
    # Weights as shares of 1 keep the sum finite for any pair of positive weights.
    mean = _normalised(text) * (text_weight / total) + _normalised(image) * (image_weight / total)
    return _sharpened(mean, temperature)


def align(probabilities: Array, labels: Sequence[str], categories: Sequence[str]) -> Array:
    """Return probabilities (n, len(categories)) with `labels`' columns moved to the order of `categories`.

    A category that the model does not know gets 0. A label that is no longer a category is dropped and its
    share spread over the rest. Raises ValueError when the columns do not match the labels, a name repeats,
    or no label is a category.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != len(labels):
        raise ValueError(f"{len(labels)} labels for probabilities of shape {probabilities.shape}")
    if len(set(labels)) != len(labels) or len(set(categories)) != len(categories):
        raise ValueError("labels and categories must not repeat")
    place = {slug: column for column, slug in enumerate(categories)}
    known = [column for column, slug in enumerate(labels) if slug in place]
    if not known:
        raise ValueError("none of the model's labels is a category")
    aligned = np.zeros((len(probabilities), len(categories)), np.float32)
    aligned[:, [place[labels[column]] for column in known]] = probabilities[:, known]
    return aligned if len(known) == len(labels) else _normalised(aligned)


def top_k(probabilities_row: Array, labels: Sequence[str], k: int = 5) -> list[tuple[str, float]]:
    """Return the k likeliest (label, probability) pairs of one row, likeliest first, ties in label order.

    Raises ValueError when the row and the labels differ in length or k is below 1.
    """
    if probabilities_row.shape != (len(labels),):
        raise ValueError(f"{len(labels)} labels for a row of shape {probabilities_row.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    order = np.argsort(-probabilities_row, kind="stable")[:k]
    return [(labels[column], float(probabilities_row[column])) for column in order]


def _sharpened(probabilities: Array, temperature: float) -> Array:
    # Relative to the row's largest, so that a small temperature can't underflow a whole row to 0.
    relative = probabilities / probabilities.max(axis=1, keepdims=True)
    return _normalised(np.asarray(relative ** (1 / temperature), np.float32))


def _normalised(probabilities: Array) -> Array:
    """Return rows that sum to 1; raise ValueError for a wrong shape, a negative value or an empty row."""
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ValueError(f"probabilities must have shape (n, classes), not {probabilities.shape}")
    if not np.all(np.isfinite(probabilities)) or np.any(probabilities < 0):
        raise ValueError("probabilities must be finite and not negative")
    total = probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    if np.any(total <= 0):
        raise ValueError("a row of probabilities sums to 0")
    return np.asarray(probabilities / total, np.float32)
