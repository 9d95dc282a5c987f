"""Define recipes: named, validated settings of a training run, and the ranges in which they may be tuned."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields, replace
from typing import Any, Literal, Self

from classifier.ml.artifact import BUNDLED_IMAGE, BUNDLED_TEXT

Modality = Literal["text", "image"]
Method = Literal["lexical", "head", "lora", "partial", "full"]
METHODS: dict[str, tuple[Method, ...]] = {
    "text": ("lexical", "head", "lora", "partial", "full"),
    "image": ("head", "partial", "full"),
}


@dataclass(frozen=True)
class Range:
    """Numbers between `low` and `high`, on a logarithmic scale if `log`, whole numbers if both ends are."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]


Ranges = dict[str, Range | Choice]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train a model: first the head on the frozen encoder's embeddings, then, by `method`, both together.

    lexical: encoder and head of the live model stay as they are, and only the n-grams are learnt. head: the encoder
    stays frozen. lora: low-rank differences of all its layers are trained. partial: its last
    `layers` blocks are trained. full: all of it is. Batch normalisation always keeps its pretrained statistics.

    The weight of a training row is (rows of its source) ** -source_power * (weight of its class) ** -class_power: 0
    leaves the data as it is, 1 gives each source or class the same weight.
    """

    name: str
    modality: Modality
    backbone: str
    method: Method
    seed: int = 18
    # The loss
    class_power: float = 0.25
    source_power: float = 0.5
    label_smoothing: float = 0.0
    # A class with fewer training rows than this is refused.
    least_rows: int = 3

    # The head on cached embeddings
    hidden: int = 0  # units of a hidden layer; 0: none
    dropout: float = 0.1
    head_epochs: int = 40
    head_patience: int = 4
    head_batch_size: int = 256
    head_rate: float = 2e-3
    head_decay: float = 0.01

    # The encoder with its head
    layers: int = 2
    lora_rank: int = 16
    epochs: int = 4
    patience: int = 2
    batch_size: int = 32  # rows of a step, over all processes
    accumulation: int = 1  # parts in which each process takes its share of a batch: more need less memory
    encoder_rate: float = 5e-5
    joint_head_rate: float = 1e-3  # the head's learning rate while the encoder learns
    layer_decay: float = 1.0  # how much slower each block learns than the one after it
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of the steps
    clip: float = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 on a GPU that has it, else fp32
    checkpoint_steps: int = 200
    # With a live model to continue from: the share of rows that it already knew in each epoch; None: as in the data.
    replay_share: float | None = None
    # How the encoder's own weights are stored: in half precision, or as int8 differences from the backbone.
    storage: Literal["half", "delta"] = "delta"

    def __post_init__(self) -> None:
        """Raises ValueError that names the field."""
        if self.modality not in METHODS:
            raise ValueError(f"modality must be one of {', '.join(METHODS)}, not {self.modality!r}")
        _check_choice(self, "method", METHODS[self.modality])
        _check_choice(self, "precision", ("auto", "fp32", "bf16"))
        _check_choice(self, "storage", ("half", "delta"))
        for name in ("name", "backbone"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} must be a word")
        _check_range(self, 0, 1, "class_power", "source_power")
        _check_range(self, 0, 0.5, "label_smoothing", "warmup")
        _check_range(self, 0, 0.95, "dropout")
        _check_range(self, 0.1, 1, "layer_decay")
        _check_range(self, 1e-7, 1, "head_rate", "encoder_rate", "joint_head_rate")
        _check_range(self, 0, 10, "head_decay", "weight_decay")
        _check_range(self, 1e-3, 1e3, "clip")
        _check_whole(
            self, 1, "head_epochs", "head_patience", "head_batch_size", "layers", "lora_rank", "epochs", "patience"
        )
        _check_whole(self, 1, "batch_size", "accumulation", "checkpoint_steps")
        _check_whole(self, 0, "seed", "hidden", "least_rows")
        if self.accumulation > self.batch_size:
            raise ValueError(f"accumulation must not be more than batch_size, not {self.accumulation}")
        if self.replay_share is not None:
            _check_range(self, 0, 1, "replay_share")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, which `from_json` turns into the same recipe."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Recipe":
        """Build the recipe. Raises ValueError for an unknown, missing or invalid setting."""
        kinds: dict[str, type[Any]] = {"text": TextRecipe, "image": ImageRecipe}
        kind = kinds.get(str(values.get("modality")))
        if kind is None:
            raise ValueError(f"modality must be text or image, not {values.get('modality')!r}")
        known = {field.name: field for field in fields(kind)}
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"{', '.join(unknown)}: no such setting of a {values['modality']} recipe")
        if missing := [name for name, field in known.items() if _is_required(field) and name not in values]:
            raise ValueError(f"{', '.join(missing)}: missing from the recipe")
        recipe: Recipe = kind(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        )
        return recipe

    def with_changes(self, **changes: Any) -> Self:
        """Return the recipe with some settings changed. Raises ValueError as the constructor."""
        return replace(self, **changes)

    def tuning_ranges(self) -> Ranges:
        """Return the settings that tuning varies, with their ranges; none where nothing could be compared."""
        if self.method == "lexical":
            return {}
        shared: Ranges = {"class_power": Range(0.0, 0.5), "label_smoothing": Range(0.0, 0.1)}
        head: Ranges = {"dropout": Range(0.0, 0.8), "head_rate": Range(3e-4, 1e-2, log=True)}
        encoder: Ranges = {
            "encoder_rate": Range(self.encoder_rate / 4, min(self.encoder_rate * 4, 1), log=True),
            "joint_head_rate": Range(1e-4, 5e-3, log=True),
            "weight_decay": Range(1e-3, 0.1, log=True),
            "layer_decay": Range(0.7, 1.0),
        }
        if self.method == "head":
            return shared | head | {"hidden": Choice((0, 192, 512)), "head_decay": Range(1e-4, 1.0, log=True)}
        if self.method == "lora":
            return shared | encoder | {"lora_rank": Choice((8, 16, 32))}
        if self.method == "partial":
            return shared | encoder | {"layers": Range(1, 6)}
        return shared | encoder


@dataclass(frozen=True, kw_only=True)
class TextRecipe(Recipe):
    """A text model: an encoder with its head and, unless `lexical` is False, hashed n-grams pooled with it."""

    modality: Modality = "text"
    backbone: str = BUNDLED_TEXT
    max_tokens: int = 96
    token_dropout: float = 0.0  # share of the tokens that an epoch leaves out of each text
    lexical: bool = True
    lexical_rows: int = 200_000  # n-grams that the artifact may hold
    lexical_strengths: tuple[float, ...] = (3.0, 10.0, 30.0)  # inverse L2 penalties to choose from
    lexical_words: int = 1  # texts that a word or pair of words must occur in
    lexical_characters: int = 2  # texts that a run of characters must occur in
    # Titles generated from the lexicon of training.everyday are learnt beside the examples, for the labels it has.
    everyday_titles: bool = False
    # How much less confident the model is of short texts than the validation rows ask for: titles of sellers are
    # stranger than those of the data.
    short_text_caution: float = 1.0
    # How much of the weight of a source of their number everyday titles have in the lexical part.
    everyday_weight: float = 1.0
    # The share of the lexical part in the pool; None: the one with the lowest log-loss.
    lexical_share: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modality != "text":
            raise ValueError(f"modality must be text, not {self.modality!r}")
        _check_whole(self, 8, "max_tokens")
        _check_range(self, 8, 512, "max_tokens")
        _check_range(self, 0, 0.5, "token_dropout")
        _check_range(self, 1, 3, "short_text_caution")
        _check_range(self, 0, 1, "everyday_weight")
        if self.lexical_share is not None:
            _check_range(self, 0, 1, "lexical_share")
        _check_whole(self, 100, "lexical_rows")
        _check_whole(self, 1, "lexical_words", "lexical_characters")
        for name in ("lexical", "everyday_titles"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}")
        if self.method == "lexical" and not self.lexical:
            raise ValueError("lexical must be true where the method is lexical")
        if not self.lexical_strengths or not all(_is_number(x) and x > 0 for x in self.lexical_strengths):
            raise ValueError("lexical_strengths must hold positive numbers")


@dataclass(frozen=True, kw_only=True)
class ImageRecipe(Recipe):
    """An image model: a convolutional network with its head."""

    modality: Modality = "image"
    backbone: str = BUNDLED_IMAGE
    view: Literal["middle", "whole"] = (
        "whole"  # what the model sees of a picture; see classifier.ml.encoders.Preprocess
    )
    augmentation: Literal["none", "crop", "strong"] = "crop"  # strong: RandAugment too
    smallest_crop: float = 0.4  # share of the picture's area
    mixup: float = 0.0  # alpha of the Beta distribution; 0: pictures are not mixed

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modality != "image":
            raise ValueError(f"modality must be image, not {self.modality!r}")
        _check_choice(self, "view", ("middle", "whole"))
        _check_choice(self, "augmentation", ("none", "crop", "strong"))
        _check_range(self, 0.05, 1, "smallest_crop")
        _check_range(self, 0, 2, "mixup")

    def tuning_ranges(self) -> Ranges:
        if self.method == "head":
            return super().tuning_ranges()
        return super().tuning_ranges() | {"augmentation": Choice(("crop", "strong")), "mixup": Choice((0.0, 0.1, 0.2))}


def _is_required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_range(recipe: Recipe, low: float, high: float, *names: str) -> None:
    for name in names:
        value = getattr(recipe, name)
        if not _is_number(value) or not low <= value <= high:
            raise ValueError(f"{name} must lie between {low:g} and {high:g}, not {value!r}")


def _check_whole(recipe: Recipe, least: int, *names: str) -> None:
    for name in names:
        value = getattr(recipe, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _check_choice(recipe: Recipe, name: str, values: tuple[str, ...]) -> None:
    if getattr(recipe, name) not in values:
        raise ValueError(f"{name} must be one of {', '.join(values)}, not {getattr(recipe, name)!r}")


_TEXT = TextRecipe(
    name="full", method="full", encoder_rate=5e-5, joint_head_rate=5e-4, epochs=3, dropout=0.2, token_dropout=0.1
)
_PARTIAL_TEXT = _TEXT.with_changes(name="partial", method="partial", layers=4, encoder_rate=8e-5)
_IMAGE = ImageRecipe(
    name="partial",
    method="partial",
    layers=3,
    encoder_rate=2e-4,
    joint_head_rate=5e-4,
    epochs=6,
    dropout=0.3,
    weight_decay=0.02,
    label_smoothing=0.05,
    smallest_crop=0.45,
)
_RECIPES: tuple[Recipe, ...] = (
    TextRecipe(name="head", method="head"),
    TextRecipe(name="lora", method="lora", encoder_rate=3e-4),
    _PARTIAL_TEXT,
    _TEXT,
    ImageRecipe(name="head", method="head", head_rate=1e-3, dropout=0.5, head_decay=0.1),
    _IMAGE,
    _IMAGE.with_changes(name="full", method="full", layer_decay=0.8, epochs=8),
    # What comes with Aisle has to stay small.
    _PARTIAL_TEXT.with_changes(name="starter", joint_head_rate=1e-3, epochs=2, max_tokens=64, lexical_rows=120_000),
    _IMAGE.with_changes(name="starter", epochs=4),
    # Continues the text starter.
    TextRecipe(
        name="everyday",
        method="lexical",
        everyday_titles=True,
        # The first of 1.0, 1.1, ... with which the 95% interval of the share of mistakes at 0.8 and over ends below 4%
        # on the titles of benchmarks/everyday.
        short_text_caution=1.5,
        everyday_weight=0.5,
        max_tokens=64,
        lexical_rows=170_000,
        # Fitted to everyday titles as well, the pool would leave long titles to the lexical part.
        lexical_share=0.5,
        lexical_strengths=(10.0,),
    ),
)
NAMED: dict[tuple[str, str], Recipe] = {(recipe.modality, recipe.name): recipe for recipe in _RECIPES}

# The name of each modality's recipe with the best accuracy for its cost.
DEFAULT = "default"
STARTER = "starter"
EVERYDAY = "everyday"
DEFAULTS: dict[str, str] = {"text": "full", "image": "partial"}


def named_recipe(modality: str, name: str) -> Recipe:
    """Return a recipe by its name, which may be "default". Raises ValueError that lists the known names."""
    resolved = DEFAULTS.get(modality, name) if name == DEFAULT else name
    try:
        return NAMED[modality, resolved]
    except KeyError:
        known = ", ".join([DEFAULT, *(known for kind, known in NAMED if kind == modality)])
        raise ValueError(f"There is no {modality} recipe {name!r}; there are: {known}.") from None


def default_recipe(modality: str) -> Recipe:
    """Return the recipe that is used when no name is given."""
    return named_recipe(modality, DEFAULT)


def recipe_names() -> list[str]:
    """Return the names of all modalities' recipes."""
    return [DEFAULT, *dict.fromkeys(name for _modality, name in NAMED)]
