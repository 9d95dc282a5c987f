"""Combine the probabilities of a text and an image model. Web processes import this: NumPy only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Kind = Literal["accuracy-weighted", "log-pool"]

ACCURACY_WEIGHTED: Kind = "accuracy-weighted"
LOG_POOL: Kind = "log-pool"

# The least probability of a category in a log pool: neither model can veto what the other is sure of.
FLOOR = 1e-7


@dataclass(frozen=True)
class Rule:
    """How a text and an image model's probabilities are combined.

    `accuracy-weighted`: the mean weighted by `text` and `image` (the models' registered accuracies), raised to
    1 / `temperature`. The mean of two calibrated forecasts is underconfident (Ranjan and Gneiting 2010, theorem 1),
    which a fitted temperature below 1 corrects.

    `log-pool`: p_text ** text * p_image ** image * exp(bias), the logarithmic opinion pool (Genest and Zidek 1986,
    section 3), its weights fitted on products that neither model was trained with. `gate` makes the weights depend on
    the models' certainty: `text` and `image` are multiplied by exp(gate[..][0] * s_text + gate[..][1] * s_image), where
    s is a model's certainty of the product, 1 - entropy / ln(classes), in [0, 1].

    `calibrated`: whether the rule was fitted, so that its probabilities are calibrated.
    """

    kind: Kind = ACCURACY_WEIGHTED
    text: float = 1.0
    image: float = 1.0
    temperature: float = 1.0
    bias: Mapping[str, float] = field(default_factory=dict)
    gate: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    calibrated: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.kind!r} is not a kind of rule")
        positive = ("temperature",) if self.kind == LOG_POOL else ("text", "image", "temperature")
        for name in positive:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, not {value}")
        if self.kind == LOG_POOL:
            self._check_pool()

    def _check_pool(self) -> None:
        if not all(math.isfinite(value) and value >= 0 for value in (self.text, self.image)):
            raise ValueError(f"weights must not be negative, not {self.text} and {self.image}")
        if self.text + self.image <= 0:
            raise ValueError("one of the weights must be positive")
        if not all(math.isfinite(value) for value in self.bias.values()):
            raise ValueError("every bias must be finite")
        if self.gate and (set(self.gate) != {"text", "image"} or any(len(pair) != 2 for pair in self.gate.values())):
            raise ValueError("a gate holds two numbers for the text and two for the image")

    @classmethod
    def from_json(cls, kind: str, parameters: Mapping[str, Any], *, text: float, image: float) -> "Rule":
        """Return a registered rule; `text` and `image` are the versions' accuracies, which weigh the plain mean.

        Raises ValueError when the parameters are unusable.
        """
        try:
            if kind == LOG_POOL:
                gate = {side: (float(low), float(high)) for side, (low, high) in parameters.get("gate", {}).items()}
                bias = {slug: float(value) for slug, value in parameters.get("bias", {}).items()}
                weights = {side: float(parameters[side]) for side in ("text", "image")}
                return cls(LOG_POOL, **weights, bias=bias, gate=gate, calibrated=True)
            temperature = float(parameters["temperature"])
            return cls(cast(Kind, kind), text, image, temperature=temperature, calibrated=True)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"unusable parameters of a rule {kind}: {parameters}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the parameters in the form that `from_json` reads."""
        if self.kind == ACCURACY_WEIGHTED:
            return {"temperature": self.temperature}
        optional = {"bias": dict(self.bias), "gate": {side: list(pair) for side, pair in self.gate.items()}}
        return {"text": self.text, "image": self.image, **{name: value for name, value in optional.items() if value}}

    def weights(self, text: Array, image: Array) -> npt.NDArray[np.float64]:
        """Return the weights of text and image for each product, (n, 2) float64."""
        plain = np.tile([self.text, self.image], (len(text), 1))
        if not self.gate:
            return plain
        certainties = np.stack([certainty(text), certainty(image)], axis=1)
        return np.asarray(plain * np.exp(certainties @ np.array([self.gate["text"], self.gate["image"]]).T))


def combine_probabilities(text: Array | None, image: Array | None, rule: Rule, categories: Sequence[str] = ()) -> Array:
    """Return both models' probabilities combined by the rule, (n, classes) float32, rows summing to 1.

    Either side may be None; the other one is then returned unchanged. Columns of both must already be in the same
    order (see `align_columns`), which is that of `categories`; only a rule with a bias needs their names. In a log pool
    a category with probability 0 is one that the model does not know: the other model's probability counts for both.
    Raises ValueError when both are missing, the shapes differ or are not (n, classes), or a row cannot be normalised.
    """
    if text is None:
        if image is None:
            raise ValueError("both the text and the image probabilities are missing")
        return normalise_rows(image)
    if image is None:
        return normalise_rows(text)
    if text.shape != image.shape:
        raise ValueError(f"text has shape {text.shape}, image has {image.shape}")
    if rule.kind == LOG_POOL:
        return _pooled(normalise_rows(text), normalise_rows(image), rule, categories)
    total = rule.text + rule.image
    # Weights as shares of 1 keep the sum finite for any pair of positive weights.
    mean = normalise_rows(text) * (rule.text / total) + normalise_rows(image) * (rule.image / total)
    return _sharpened(mean, rule.temperature)


def filled_log_probabilities(text: Array, image: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return both models' log-probabilities; where one does not know a category, it gets the other's.

    Where neither knows it, both are -inf.
    """
    filled = np.where(text > 0, text, image), np.where(image > 0, image, text)
    with np.errstate(divide="ignore"):
        log_text, log_image = (np.log(np.where(p > 0, np.maximum(p, FLOOR), 0), dtype=np.float64) for p in filled)
    return log_text, log_image


def certainty(probabilities: Array) -> npt.NDArray[np.float64]:
    """Return each row's certainty, (n,) in [0, 1]: 1 - entropy / ln(classes)."""
    p = probabilities.astype(np.float64)
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1)
    return np.asarray(1 - entropy / math.log(max(p.shape[1], 2)))


def align_columns(probabilities: Array, labels: Sequence[str], categories: Sequence[str]) -> Array:
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
    # A label that is not in `categories` was deleted since the version was trained; its share goes to the others.
    aligned[:, [place[labels[column]] for column in known]] = probabilities[:, known]
    return aligned if len(known) == len(labels) else normalise_rows(aligned)


def normalise_rows(probabilities: Array) -> Array:
    """Return rows that sum to 1; raise ValueError for a wrong shape, a negative value or an empty row."""
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ValueError(f"probabilities must have shape (n, classes), not {probabilities.shape}")
    if not np.all(np.isfinite(probabilities)) or np.any(probabilities < 0):
        raise ValueError("probabilities must be finite and not negative")
    total = probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    if np.any(total <= 0):
        raise ValueError("a row of probabilities sums to 0")
    return np.asarray(probabilities / total, np.float32)


def top_k(probabilities_row: Array, labels: Sequence[str], k: int = 5) -> list[tuple[str, float]]:
    """Return the k likeliest (label, probability) pairs of one row, likeliest first, ties in label order.

    Raises ValueError when the row and the labels differ in length or k is below 1.
    """
    if probabilities_row.shape != (len(labels),):
        raise ValueError(f"{len(labels)} labels for a row of shape {probabilities_row.shape}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    # Stable, so that equal probabilities always come in the same order.
    order = np.argsort(-probabilities_row, kind="stable")[:k]
    return [(labels[column], float(probabilities_row[column])) for column in order]


def _pooled(text: Array, image: Array, rule: Rule, categories: Sequence[str]) -> Array:
    weights = rule.weights(text, image)
    log_text, log_image = filled_log_probabilities(text, image)
    with np.errstate(invalid="ignore"):  # a weight of 0 times the -inf of a category that neither model knows
        scores = weights[:, :1] * log_text + weights[:, 1:] * log_image
    if rule.bias:
        if len(categories) != text.shape[1]:
            raise ValueError(f"a rule with a bias needs the names of all {text.shape[1]} categories")
        scores = scores + np.array([rule.bias.get(slug, 0.0) for slug in categories])
    scores = np.where(np.isfinite(log_text) & np.isfinite(log_image), scores / rule.temperature, -np.inf)
    return normalise_rows(np.asarray(np.exp(scores - scores.max(axis=1, keepdims=True)), np.float32))


def _sharpened(probabilities: Array, temperature: float) -> Array:
    # Relative to the row's largest, so that a small temperature can't underflow a whole row to 0.
    relative = probabilities / probabilities.max(axis=1, keepdims=True)
    return normalise_rows(np.asarray(relative ** (1 / temperature), np.float32))
