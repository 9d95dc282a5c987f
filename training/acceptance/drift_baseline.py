"""What the products of a training snapshot look like to the versions that serve: drift's reference."""

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from classifier.models import Category, Modality, ModelVersion, Prediction
from classifier.registry import traffic
from classifier.serving import batch as serving_batch
from classifier.serving.inference import PredictionResult, ProductInput, top_five
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

ROWS = 2_000
LEAST = 300
AT_ONCE = 32
PARTS = (Split.TEST, Split.VALIDATION)  # what a model answers more surely because it learnt it is no reference


def pairs_without_baseline() -> Iterator[tuple[ModelVersion, ModelVersion, Dataset]]:
    """Yield the live pairs that were trained on a snapshot and are not compared with it yet, and that snapshot."""
    for text in traffic.live_variants(Modality.TEXT):
        for image in traffic.live_variants(Modality.IMAGE):
            dataset = _dataset(text.version) or _dataset(image.version)
            known = DriftReference.objects.filter(
                text_version=text.version, image_version=image.version, origin=DriftReference.Origin.SNAPSHOT
            )
            if dataset and not known.exists():
                yield text.version, image.version, dataset


def _dataset(version: ModelVersion) -> Dataset | None:
    """Return the snapshot that a version was trained on; a starter came without one."""
    checksum = version.lineage.get("dataset")
    return Dataset.objects.filter(checksum=checksum).first() if checksum else None


def write_baseline(text: ModelVersion, image: ModelVersion, dataset: Dataset) -> DriftReference | None:
    """Store the reference of a pair; None where too few of the snapshot's products are answered by just these two.

    Raises what `snapshot_storage.fetch_corpus` and `serving_batch.answer_now` raise.
    """
    pair = (text.pk, image.pk)
    corpus = snapshot_storage.fetch_corpus(dataset)
    ids: list[str] = []
    texts: list[tuple[str, str]] = []
    looks: list[PhotoFeatures | None] = []
    tops: list[dict[str, Any]] = []
    labels: list[str] = []
    vectors: dict[str, list[Any]] = {modality: [] for modality in Modality.values}
    for row, photo, answer, top in _answered(corpus):
        if _other(answer, pair):
            continue
        ids.append(row_key(row["source"], row["id"]))
        texts.append((row["title"] or "", row["description"] or ""))
        looks.append(measure_photo(photo) if photo else None)
        tops.append(top)
        labels.append(row["label"])
        for modality, column in vectors.items():
            said = answer.of(modality)
            column.append(None if said is None else said.embedding)
    if len(ids) < LEAST:
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
        modality: _filled(column) for modality, column in vectors.items() if any(v is not None for v in column)
    }
    return baselines.store_baseline(pair, rows, embeddings, origin=DriftReference.Origin.SNAPSHOT)


def _answered(
    corpus: "Corpus",
) -> Iterator[tuple[Mapping[str, Any], Image.Image | None, PredictionResult, dict[str, Any]]]:
    """Yield a sample of the held-back products with what the live versions say of them now."""
    rows = _sample(corpus)
    while batch := list(islice(rows, AT_ONCE)):
        photos = [Image.open(io.BytesIO(row["photo"])).convert("RGB") if row["photo"] else None for row in batch]
        questions = [
            ProductInput(Prediction(title=row["title"] or "", description=row["description"] or ""), photo)
            for row, photo in zip(batch, photos, strict=True)
        ]
        answers, categories = serving_batch.predict_many_now(questions)
        for row, photo, answer in zip(batch, photos, answers, strict=True):
            yield row, photo, answer, _best(answer, categories)


def _sample(corpus: "Corpus") -> Iterator[Mapping[str, Any]]:
    parts = [corpus.split(part) for part in PARTS]
    total = sum(len(part) for part in parts)
    chosen = np.random.default_rng(18).permutation(total)[:ROWS]
    for number in sorted(chosen.tolist()):
        for part in parts:
            if number < len(part):
                yield part[number]
                break
            number -= len(part)


def _best(answer: PredictionResult, categories: Sequence[Category]) -> dict[str, Any]:
    return top_five(answer.combined, categories)[0]


def _other(answer: PredictionResult, pair: VersionPair) -> bool:
    """Whether a version that is none of the pair answered, as under a test."""
    return any(
        said is not None and said.version.pk != pk for said, pk in zip((answer.text, answer.image), pair, strict=True)
    )


def _filled(column: Sequence[Any]) -> Any:
    dim = len(next(each for each in column if each is not None))
    return np.array([np.full(dim, np.nan) if each is None else each for each in column], np.float32)
