"""Compute drift baselines: how the products of a training snapshot look to the live versions."""

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from classifier.ml.classifier import ProductInput
from classifier.models import Category, Modality, ModelVersion
from classifier.registry import traffic
from classifier.serving import batch as serving_batch
from classifier.serving.inference import PredictionResult, top_five
from feedback.models import DriftReference
from feedback.monitoring import baselines
from feedback.monitoring.baselines import VersionPair
from feedback.statistics.drift.columns import build_features
from feedback.statistics.drift.input_features import PhotoFeatures, measure_photo
from training.datasets import snapshot_storage
from training.datasets.corpus import row_key
from training.models import Dataset, Split

if TYPE_CHECKING:
    from training.datasets.corpus import Corpus

MAX_ROWS = 2_000
MIN_ROWS = 300
ROWS_AT_ONCE = 32
SEED = 18
# Not the training split: a model is more confident of the products that it has learnt.
HELD_BACK = (Split.TEST, Split.VALIDATION)


def pairs_without_baseline() -> Iterator[tuple[ModelVersion, ModelVersion, Dataset]]:
    """Yield the live pairs that lack a baseline from the snapshot that they were trained on, with that snapshot."""
    for text in traffic.live_variants(Modality.TEXT):
        for image in traffic.live_variants(Modality.IMAGE):
            dataset = _training_dataset(text.version) or _training_dataset(image.version)
            existing = DriftReference.objects.filter(
                text_version=text.version, image_version=image.version, origin=DriftReference.Origin.SNAPSHOT
            )
            if dataset and not existing.exists():
                yield text.version, image.version, dataset


def _training_dataset(version: ModelVersion) -> Dataset | None:
    """Return the snapshot that a version was trained on; the starters come without one."""
    checksum = version.lineage.get("dataset")
    return Dataset.objects.filter(checksum=checksum).first() if checksum else None


def write_baseline(text: ModelVersion, image: ModelVersion, dataset: Dataset) -> DriftReference | None:
    """Store the baseline of a pair; None where too few of the snapshot's products are answered by these two versions.

    Raises what `snapshot_storage.fetch_corpus` and `serving_batch.predict_many_now` raise.
    """
    pair = (text.pk, image.pk)
    corpus = snapshot_storage.fetch_corpus(dataset)
    ids: list[str] = []
    texts: list[tuple[str, str]] = []
    looks: list[PhotoFeatures | None] = []
    tops: list[dict[str, Any]] = []
    labels: list[str] = []
    vectors: dict[str, list[Any]] = {modality: [] for modality in Modality.values}
    for row, photo, answer, top in _answer_sample(corpus):
        if _is_by_another_version(answer, pair):
            continue
        ids.append(row_key(row["source"], row["id"]))
        texts.append((row["title"] or "", row["description"] or ""))
        looks.append(measure_photo(photo) if photo else None)
        tops.append(top)
        labels.append(row["label"])
        for modality, column in vectors.items():
            output = answer.outputs.get(modality)
            column.append(output.embedding if output else None)
    if len(ids) < MIN_ROWS:
        return None
    rows = build_features(
        ids,
        texts=texts,
        looks=looks,
        predicted=[top["slug"] for top in tops],
        confidence=np.array([top["probability"] for top in tops], np.float32),
        embeddings={},
        projections={},
        chosen=labels,
    )
    embeddings = {
        modality: _fill_gaps(column) for modality, column in vectors.items() if any(v is not None for v in column)
    }
    return baselines.store_baseline(pair, rows, embeddings, origin=DriftReference.Origin.SNAPSHOT)


def _answer_sample(
    corpus: "Corpus",
) -> Iterator[tuple[Mapping[str, Any], Image.Image | None, PredictionResult, dict[str, Any]]]:
    """Yield a sample of the held-back products with the live versions' results."""
    rows = _sample(corpus)
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        photos = [Image.open(io.BytesIO(row["photo"])).convert("RGB") if row["photo"] else None for row in batch]
        products = [
            ProductInput(row["title"] or "", row["description"] or "", photo)
            for row, photo in zip(batch, photos, strict=True)
        ]
        answers, categories = serving_batch.predict_many_now(products)
        for row, photo, answer in zip(batch, photos, answers, strict=True):
            yield row, photo, answer, _likeliest(answer, categories)


def _sample(corpus: "Corpus") -> Iterator[Mapping[str, Any]]:
    splits = [corpus.split(split) for split in HELD_BACK]
    total = sum(len(split) for split in splits)
    chosen = np.random.default_rng(SEED).permutation(total)[:MAX_ROWS]
    # In their order, so that the memory-mapped shards are read from front to back.
    for number in sorted(chosen.tolist()):
        for split in splits:
            if number < len(split):
                yield split[number]
                break
            number -= len(split)


def _likeliest(answer: PredictionResult, categories: Sequence[Category]) -> dict[str, Any]:
    return top_five(answer.probabilities, categories)[0]


def _is_by_another_version(answer: PredictionResult, pair: VersionPair) -> bool:
    """Return whether a version outside the pair answered, as during an experiment."""
    return any(output.version.pk not in pair for output in answer.outputs.values())


def _fill_gaps(column: Sequence[Any]) -> Any:
    """Return the embeddings as an array, rows without one as NaN."""
    dim = len(next(each for each in column if each is not None))
    return np.array([np.full(dim, np.nan) if each is None else each for each in column], np.float32)
