"""The models' answers to a batch of questions: which version is asked, what it says, and what both say together."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from classifier.ml import ensemble
from classifier.ml.artifact import ArtifactError
from classifier.models import Category, Modality, ModelVersion, Prediction, Variant
from classifier.registry import ensemble_rules, model_cache, traffic
from common.object_storage import StorageDown

if TYPE_CHECKING:
    from classifier.ml.encoders import BatchOutput

OUTAGES = (StorageDown, traffic.NothingDeployed, ArtifactError)
TOP = 5
ALONE = "alone"  # the rule of a product that one model alone could answer
REFERENCE = "torch fp32"  # the engine of a model that names none


@dataclass(frozen=True)
class ProductInput:
    """A prediction and its photo, decoded."""

    prediction: Prediction
    photo: Image.Image | None = None

    def is_for(self, modality: str) -> bool:
        return self.prediction.has_text if modality == Modality.TEXT else self.photo is not None


@dataclass(frozen=True)
class ModelOutput:
    """What one version said of one question; arrays (categories,) in the order of the slugs, and (dim,)."""

    version: ModelVersion
    probabilities: np.ndarray
    embedding: np.ndarray
    engine: str
    milliseconds: float  # the row's share of the time
    rows: int  # how many were answered in one pass
    is_unusual: bool = False  # unlike anything that the version has learnt

    def how(self) -> dict[str, Any]:
        return {"engine": self.engine, "ms": round(self.milliseconds, 3), "rows": self.rows}


@dataclass
class PredictionResult:
    """What both models said of one prediction, and what they say together, (categories,)."""

    text: ModelOutput | None = None
    image: ModelOutput | None = None
    combined: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    ensemble: dict[str, Any] = field(default_factory=dict)

    def of(self, modality: str) -> ModelOutput | None:
        return self.text if modality == Modality.TEXT else self.image

    @property
    def unusual(self) -> str:
        """A value of `Prediction.Unusual`, or nothing."""
        strange = [modality for modality in Modality.values if (said := self.of(modality)) and said.is_unusual]
        return Prediction.Unusual.BOTH.value if len(strange) == 2 else "".join(strange)


@dataclass(frozen=True)
class ModelFailure:
    """A version that could not answer so many rows, and why."""

    version: ModelVersion
    rows: int
    error: str


class ModelFailed(Exception):
    """A version raised and no other could stand in for it; its cause is what was raised."""

    def __init__(self, troubles: Sequence[ModelFailure]) -> None:
        super().__init__(str(troubles[-1]))
        self.troubles = troubles


@dataclass(frozen=True)
class _Part:
    """The rows of a batch that one version answers, and the version that does it when this one fails."""

    version: ModelVersion
    rows: list[int]
    stand_in: ModelVersion


def predict_batch(
    questions: Sequence[ProductInput], categories: Sequence[Category]
) -> tuple[list[PredictionResult], list[ModelFailure]]:
    """Classify a batch; return the answers and what went wrong though every question has its answer.

    A version under test that can't be loaded, or that raises, costs nobody an answer: what it replaced, or the version
    with most traffic, answers in its place. Raises one of OUTAGES when the models can't be had, ModelFailed when one
    fails that nobody can stand in for.
    """
    slugs = [category.slug for category in categories]
    live = traffic.live_variants_by_modality()
    troubles: list[ModelFailure] = []
    parts = [part for modality in Modality.values for part in _parts(live[modality], modality, questions, troubles)]
    answers = [PredictionResult() for _question in questions]
    for part, outcome in zip(parts, _all_at_once(parts, questions, slugs), strict=True):
        for row, said in _settle(part, outcome, questions, slugs, troubles):
            if said.version.modality == Modality.TEXT:
                answers[row].text = said
            else:
                answers[row].image = said
    rules = ensemble_rules.usable_rules({said.version for each in answers for said in (each.text, each.image) if said})
    for each in answers:
        _combine(each, rules, slugs)
    return answers, troubles


def run_version(version: ModelVersion, questions: Sequence[ProductInput], slugs: Sequence[str]) -> list[ModelOutput]:
    """Return what the version says of each question. Raises whatever its model raises."""
    start = perf_counter()
    output: BatchOutput
    model: Any
    if version.modality == Modality.TEXT:
        model = model_cache.load_text(version)
        asked = [question.prediction for question in questions]
        output = model.predict([each.title for each in asked], [each.description for each in asked])
    else:
        model = model_cache.load_image(version)
        output = model.predict([question.photo for question in questions])
    if not np.isfinite(output.probabilities).all():
        raise ValueError(f"{version} answered with something that is no number")
    probabilities = ensemble.align_columns(output.probabilities, model.labels, slugs)
    count = len(questions)
    known = model_cache.cached_detector(version)
    confidence = output.probabilities.max(axis=1)
    strange = known.flags(output.embeddings, confidence) if known else np.zeros(count, bool)
    milliseconds = (perf_counter() - start) * 1000 / count
    engine = getattr(model, "engine", REFERENCE)
    rows = zip(probabilities, output.embeddings, strange.tolist(), strict=True)
    return [ModelOutput(version, each, embedding, engine, milliseconds, count, odd) for each, embedding, odd in rows]


def round_probabilities(probabilities: np.ndarray, categories: Sequence[Category]) -> dict[str, float]:
    """Return {slug: probability}, rounded to six digits."""
    rounded = probabilities.astype(np.float64).round(6).tolist()
    return {category.slug: value for category, value in zip(categories, rounded, strict=True)}


def top_five(probabilities: np.ndarray, categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Return the five likeliest of the categories that sellers are offered."""
    offered = [i for i, category in enumerate(categories) if category.is_active]
    names = {categories[i].slug: categories[i].name for i in offered}
    ranked = ensemble.top_k(probabilities[offered], list(names), TOP)
    return [{"category": names[slug], "slug": slug, "probability": round(float(p), 6)} for slug, p in ranked]


def describe_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _parts(
    variants: Sequence[Variant], modality: str, questions: Sequence[ProductInput], troubles: list[ModelFailure]
) -> list[_Part]:
    """Return who answers which rows. Each of the versions can be loaded; those that can't be are noted."""
    chosen: dict[ModelVersion, list[int]] = defaultdict(list)
    for row, question in enumerate(questions):
        if question.is_for(modality):
            key = question.prediction.variant_key or question.prediction.pk
            chosen[traffic.choose_variant(variants, key)].append(row)
    groups: dict[ModelVersion, list[int]] = defaultdict(list)
    for version, rows in chosen.items():
        standing = model_cache.load_or_fall_back(version)
        if standing != version:
            troubles.append(ModelFailure(version, len(rows), f"could not be loaded: {standing} answered"))
        groups[standing] += rows
    return [_Part(version, rows, variants[0].version) for version, rows in groups.items()]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="models")


def _all_at_once(
    parts: Sequence[_Part], questions: Sequence[ProductInput], slugs: Sequence[str]
) -> list[list[ModelOutput] | Exception]:
    """Return what each part's version says, or raised: two at a time, so that text and image run side by side."""

    def attempt(part: _Part) -> list[ModelOutput] | Exception:
        try:
            return run_version(part.version, [questions[row] for row in part.rows], slugs)
        except Exception as error:  # noqa: BLE001 - who asked decides what becomes of it
            return error

    return list(_threads().map(attempt, parts)) if len(parts) > 1 else [attempt(part) for part in parts]


def _settle(
    part: _Part,
    outcome: list[ModelOutput] | Exception,
    questions: Sequence[ProductInput],
    slugs: Sequence[str],
    troubles: list[ModelFailure],
) -> Iterable[tuple[int, ModelOutput]]:
    """Return what is said of each of the part's rows; where its version raised, by the one that stands in."""
    if not isinstance(outcome, Exception):
        return zip(part.rows, outcome, strict=True)
    if isinstance(outcome, OUTAGES):
        raise outcome
    if part.version == part.stand_in:
        raise ModelFailed([ModelFailure(part.version, len(part.rows), describe_error(outcome))]) from outcome
    said: list[tuple[int, ModelOutput]] = []
    left = part.rows
    if len(part.rows) > 1:
        left = []
        for row in part.rows:
            try:
                said.append((row, run_version(part.version, [questions[row]], slugs)[0]))
            except Exception as error:  # noqa: BLE001 - the row is answered below
                outcome, left = error, [*left, row]
    if left:
        troubles.append(ModelFailure(part.version, len(left), describe_error(outcome)))
        stand_in = model_cache.load_or_fall_back(part.stand_in)
        try:
            said += zip(left, run_version(stand_in, [questions[row] for row in left], slugs), strict=True)
        except Exception as error:
            raise ModelFailed([*troubles, ModelFailure(stand_in, len(left), describe_error(error))]) from error
    return said


def _combine(answer: PredictionResult, rules: dict[tuple[int, int], ensemble.Rule], slugs: Sequence[str]) -> None:
    """Set what both models say together and how it came about."""
    text, image = answer.text, answer.image
    text_row = None if text is None else text.probabilities[np.newaxis]
    image_row = None if image is None else image.probabilities[np.newaxis]
    # Without a rule of their own, two models answer by the plain mean, which nobody may take at its word.
    accuracies = {said.version.modality: said.version.accuracy for said in (text, image) if said}
    rule = ensemble.Rule(text=accuracies.get("text", 1.0), image=accuracies.get("image", 1.0))
    if text and image:
        rule = rules.get((text.version.pk, image.version.pk), rule)
    answer.combined = ensemble.combine_probabilities(text_row, image_row, rule, slugs)[0]
    if text_row is not None and image_row is not None:
        weights = rule.weights(text_row, image_row)[0]
        answer.ensemble = {
            "rule": rule.kind,
            "text": float(weights[0]),
            "image": float(weights[1]),
            "temperature": rule.temperature,
            "calibrated": rule.calibrated,
        }
    else:
        answer.ensemble = {"rule": ALONE, **accuracies, "temperature": 1.0, "calibrated": True}
