"""Run the live versions on a batch of products: plan, run, fall back, combine."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from classifier.ml import ensemble
from classifier.ml.artifact import ArtifactError
from classifier.ml.classifier import ProductInput
from classifier.modalities import MODALITIES, Modality
from classifier.models import Category, ModelVersion, Prediction, Variant
from classifier.registry import ensemble_rules, model_cache, traffic
from common.object_storage import StorageDown

# Failures that concern every product; a retry may help once they are over.
OUTAGES = (StorageDown, traffic.NothingDeployed, ArtifactError)
TOP = 5
SINGLE_MODEL = "alone"  # stored as the rule of a product that only one model could read
THREADS = 2  # one for each modality

Rules = Mapping[tuple[int, int], ensemble.Rule]


@dataclass(frozen=True)
class ModelOutput:
    """What one version returned for one product; arrays (categories,) in the order of the slugs, and (dim,)."""

    version: ModelVersion
    probabilities: np.ndarray
    embedding: np.ndarray
    engine: str
    milliseconds: float  # this product's share of the pass
    rows: int  # how many products the pass had
    is_out_of_distribution: bool = False

    def pass_record(self) -> dict[str, Any]:
        """Return what `Prediction.passes` stores of the forward pass."""
        return {"engine": self.engine, "ms": round(self.milliseconds, 3), "rows": self.rows}


@dataclass(frozen=True)
class PredictionResult:
    """The outputs for one product by modality, and their combination (categories,)."""

    outputs: Mapping[str, ModelOutput]
    probabilities: np.ndarray
    ensemble: dict[str, Any]  # as stored: the rule, its weights, and whether it is calibrated

    @property
    def unusual(self) -> str:
        """The value of `Prediction.unusual`."""
        flagged = [modality for modality, output in self.outputs.items() if output.is_out_of_distribution]
        if len(flagged) > 1:
            return Prediction.Unusual.BOTH.value
        return flagged[0] if flagged else ""


@dataclass(frozen=True)
class ModelFailure:
    """A version that could not be loaded or raised, and the number of rows that it left without an answer."""

    version: ModelVersion
    rows: int
    error: str


@dataclass(frozen=True)
class BatchResult:
    """The results of a batch in its order, and the failures that fallbacks made up for."""

    results: list[PredictionResult]
    failures: tuple[ModelFailure, ...] = ()


class ModelFailed(Exception):
    """A version raised and no other one could answer instead; its cause is what was raised."""

    def __init__(self, failures: Sequence[ModelFailure]) -> None:
        super().__init__(str(failures[-1]))
        self.failures = tuple(failures)


@dataclass(frozen=True)
class Shard:
    """The rows of a batch that one version answers, and the version that answers them when it fails."""

    version: ModelVersion
    rows: list[int]
    fallback: ModelVersion


@dataclass(frozen=True)
class Plan:
    """Which version answers which rows, and the chosen versions that could not be loaded."""

    shards: list[Shard]
    failures: tuple[ModelFailure, ...] = ()


@dataclass(frozen=True)
class ShardResult:
    """A shard's outputs by row of the batch, and the failures on the way to them."""

    outputs: dict[int, ModelOutput]
    failures: tuple[ModelFailure, ...] = ()


def predict_batch(
    products: Sequence[ProductInput], keys: Sequence[uuid.UUID], categories: Sequence[Category]
) -> BatchResult:
    """Return a result for each product; a product's key chooses the variants that answer it.

    A version that can't be loaded, or that raises, leaves no product without a result: the version that it replaced, or
    the champion, answers instead. Raises one of OUTAGES when no model can be loaded, and ModelFailed when a version
    fails for which there is no fallback.
    """
    slugs = [category.slug for category in categories]
    plan = plan_shards(traffic.live_variants_by_modality(), products, keys)
    failures = list(plan.failures)
    outputs: list[dict[str, ModelOutput]] = [{} for _product in products]
    for shard, outcome in zip(plan.shards, _run_shards(plan.shards, products, slugs), strict=True):
        try:
            result = _complete_shard(shard, outcome, products, slugs)
        except ModelFailed as error:
            raise ModelFailed([*failures, *error.failures]) from error.__cause__
        failures += result.failures
        for row, output in result.outputs.items():
            outputs[row][output.version.modality] = output
    # Read after the versions have answered: a fallback makes another pair than the plan's.
    rules = ensemble_rules.usable_rules(_versions(outputs))
    return BatchResult([combine_outputs(found, rules, slugs) for found in outputs], tuple(failures))


def plan_shards(
    variants_by_modality: Mapping[str, Sequence[Variant]],
    products: Sequence[ProductInput],
    keys: Sequence[uuid.UUID],
) -> Plan:
    """Choose a loadable version for each product and modality that can read it. Raises one of OUTAGES."""
    shards: list[Shard] = []
    failures: list[ModelFailure] = []
    for modality, entry in MODALITIES.items():
        variants = variants_by_modality[modality]
        chosen: dict[ModelVersion, list[int]] = defaultdict(list)
        for row, (product, key) in enumerate(zip(products, keys, strict=True)):
            if entry.accepts(product):
                chosen[traffic.choose_variant(variants, key)].append(row)
        loadable: dict[ModelVersion, list[int]] = defaultdict(list)
        for version, rows in chosen.items():
            # Loaded here, in the caller's thread, as falling back reads the database.
            loaded = model_cache.load_or_fall_back(version)
            if loaded != version:
                failures.append(ModelFailure(version, len(rows), f"could not be loaded: {loaded} answered"))
            loadable[loaded] += rows
        for version, rows in loadable.items():
            shards.append(Shard(version, rows, fallback=variants[0].version))
    return Plan(shards, tuple(failures))


def run_version(version: ModelVersion, products: Sequence[ProductInput], slugs: Sequence[str]) -> list[ModelOutput]:
    """Return one output per product. Raises the errors of the version's model."""
    start = perf_counter()
    model = model_cache.load_model(version)
    output = model.predict(products)
    # NaN would be stored as invalid JSON and would win every argmax.
    if not np.isfinite(output.probabilities).all():
        raise ValueError(f"{version} returned probabilities that are not finite numbers")
    probabilities = ensemble.align_columns(output.probabilities, model.labels, slugs)
    count = len(products)
    flags = [False] * count
    detector = model_cache.cached_detector(version)
    if detector:
        flags = detector.flags(output.embeddings, output.probabilities.max(axis=1)).tolist()
    milliseconds = (perf_counter() - start) * 1000 / count
    return [
        ModelOutput(version, probabilities[row], output.embeddings[row], model.engine, milliseconds, count, flags[row])
        for row in range(count)
    ]


def combine_outputs(outputs: Mapping[str, ModelOutput], rules: Rules, slugs: Sequence[str]) -> PredictionResult:
    """Combine the outputs for one product by the pair's rule; a single one counts alone.

    A pair without a rule is combined by the plain mean, which is marked as not calibrated.
    """
    accuracies = {modality: output.version.accuracy for modality, output in outputs.items()}
    text, image = outputs.get(Modality.TEXT), outputs.get(Modality.IMAGE)
    if text is None or image is None:
        if not outputs:
            raise ValueError("no model can read the product")
        (only,) = outputs.values()
        details = {"rule": SINGLE_MODEL, **accuracies, "temperature": 1.0, "calibrated": True}
        return PredictionResult(outputs, ensemble.normalise_rows(only.probabilities[np.newaxis])[0], details)
    plain_mean = ensemble.Rule(text=text.version.accuracy, image=image.version.accuracy)
    rule = rules.get((text.version.pk, image.version.pk), plain_mean)
    text_row, image_row = text.probabilities[np.newaxis], image.probabilities[np.newaxis]
    combined = ensemble.combine_probabilities(text_row, image_row, rule, slugs)[0]
    weights = rule.weights(text_row, image_row)[0]
    details = {
        "rule": rule.kind,
        "text": float(weights[0]),
        "image": float(weights[1]),
        "temperature": rule.temperature,
        "calibrated": rule.calibrated,
    }
    return PredictionResult(outputs, combined, details)


def round_probabilities(probabilities: np.ndarray, categories: Sequence[Category]) -> dict[str, float]:
    """Return {slug: probability}, rounded to six digits."""
    rounded = probabilities.astype(np.float64).round(6).tolist()
    return {category.slug: value for category, value in zip(categories, rounded, strict=True)}


def top_five(probabilities: np.ndarray, categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Return the five likeliest of the active categories; one that was merged adds to the one that replaces it."""
    totals: dict[str, float] = {}
    names = {}
    for category, probability in zip(categories, probabilities, strict=True):
        current = category.current
        if current.is_active:
            names[current.slug] = current.name
            totals[current.slug] = totals.get(current.slug, 0.0) + float(probability)
    ranked = ensemble.top_k(np.array(list(totals.values())), list(names), TOP)
    return [{"category": names[slug], "slug": slug, "probability": round(float(p), 6)} for slug, p in ranked]


def describe_error(error: BaseException) -> str:
    """Return an exception's type and message, cut to the length of the columns that store it."""
    return f"{type(error).__name__}: {error}"[:200]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="models")


def _run_shards(
    shards: Sequence[Shard], products: Sequence[ProductInput], slugs: Sequence[str]
) -> list[list[ModelOutput] | Exception]:
    """Return each shard's outputs, or what its version raised; text and image run side by side."""

    def attempt(shard: Shard) -> list[ModelOutput] | Exception:
        try:
            return run_version(shard.version, [products[row] for row in shard.rows], slugs)
        except Exception as error:  # noqa: BLE001 - `_complete_shard` decides what follows
            return error

    if len(shards) > 1:
        return list(_threads().map(attempt, shards))
    return [attempt(shard) for shard in shards]


def _complete_shard(
    shard: Shard, outcome: list[ModelOutput] | Exception, products: Sequence[ProductInput], slugs: Sequence[str]
) -> ShardResult:
    """Return one output per row of the shard; fall back where its version raised.

    Runs in the caller's thread: choosing a fallback reads the database, whose connection belongs to that thread.
    """
    if not isinstance(outcome, Exception):
        return ShardResult(dict(zip(shard.rows, outcome, strict=True)))
    if isinstance(outcome, OUTAGES):
        raise outcome
    if shard.version == shard.fallback:
        raise ModelFailed([ModelFailure(shard.version, len(shard.rows), describe_error(outcome))]) from outcome
    outputs: dict[int, ModelOutput] = {}
    unanswered = shard.rows
    error = outcome
    if len(shard.rows) > 1:
        # One bad product must not hand the whole batch to the fallback, or an experiment would count too few.
        unanswered = []
        for row in shard.rows:
            try:
                outputs[row] = run_version(shard.version, [products[row]], slugs)[0]
            except Exception as row_error:  # noqa: BLE001 - the fallback answers this row below
                error = row_error
                unanswered.append(row)
    if not unanswered:
        return ShardResult(outputs)
    failure = ModelFailure(shard.version, len(unanswered), describe_error(error))
    fallback = model_cache.load_or_fall_back(shard.fallback)
    try:
        answers = run_version(fallback, [products[row] for row in unanswered], slugs)
    except Exception as second_error:
        second_failure = ModelFailure(fallback, len(unanswered), describe_error(second_error))
        raise ModelFailed([failure, second_failure]) from second_error
    outputs.update(zip(unanswered, answers, strict=True))
    return ShardResult(outputs, (failure,))


def _versions(outputs: Iterable[Mapping[str, ModelOutput]]) -> set[ModelVersion]:
    return {output.version for found in outputs for output in found.values()}
