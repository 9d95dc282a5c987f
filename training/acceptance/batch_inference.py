"""Predict a corpus's products with model versions, in batches."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from classifier.ml.classifier import Classifier, ProductInput
from classifier.ml.ensemble import align_columns
from classifier.modalities import MODALITIES
from classifier.models import ModelVersion
from classifier.registry import model_cache
from training.acceptance.metrics import Probabilities
from training.datasets.corpus import row_key

if TYPE_CHECKING:
    from datasets import Dataset

    from training.datasets.corpus import Corpus

ROWS_AT_ONCE = 64


def predict_rows(
    version: ModelVersion, corpus: "Corpus", split: str, keys: Sequence[str], labels: Sequence[str]
) -> Probabilities:
    """Return the version's probabilities of the named rows, (n, labels) float32, in their order.

    A label that the version doesn't know gets 0. Raises ArtifactError and StorageDown as `load_model` does.
    """
    model = model_cache.load_model(version)
    parts = [
        align_columns(predict_corpus_rows(model, batch), model.labels, labels)
        for batch in _batches(corpus, split, keys, version.modality)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(labels)), np.float32)


def predict_corpus_rows(model: Classifier, rows: Sequence[Mapping[str, Any]]) -> Probabilities:
    """Return a loaded model's probabilities of corpus rows, photos decoded as a worker decodes them."""
    return model.predict([_product_input(row) for row in rows]).probabilities


def _product_input(row: Mapping[str, Any]) -> ProductInput:
    """Return what a corpus row holds of a product; the row may lack the columns that the modality doesn't read."""
    photo = row.get("photo")
    decoded = Image.open(io.BytesIO(photo)).convert("RGB") if photo else None
    return ProductInput(row.get("title") or "", row.get("description") or "", decoded)


def rows_with_both(corpus: "Corpus", split: str, labels: Sequence[str]) -> dict[str, str]:
    """Return {key: label} of the split's products that have a text, a photo and one of the labels."""
    rows = corpus.split(split, columns=["source", "id", "label"], with_text=True, with_photo=True)
    return {row_key(row["source"], row["id"]): row["label"] for row in rows if row["label"] in set(labels)}


def rows_by_key(corpus: "Corpus", split: str, keys: Sequence[str], modality: str) -> Iterator[Mapping[str, Any]]:
    """Yield the named rows of a split with the modality's columns, in the order of the keys.

    Raises KeyError for one that the split lacks.
    """
    entry = MODALITIES[modality]
    rows: Dataset = corpus.split(split, columns=["source", "id", *entry.columns], **entry.corpus_filter)
    names = enumerate(rows.select_columns(["source", "id"]))
    place = {row_key(row["source"], row["id"]): number for number, row in names}
    for name in keys:
        yield rows[place[name]]


def _batches(corpus: "Corpus", split: str, keys: Sequence[str], modality: str) -> Iterator[list[Mapping[str, Any]]]:
    rows = rows_by_key(corpus, split, keys, modality)
    for start in range(0, len(keys), ROWS_AT_ONCE):
        yield [next(rows) for _key in keys[start : start + ROWS_AT_ONCE]]
