"""Fit the out-of-distribution detector of a model version on labelled products."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.ml.out_of_distribution import QUANTILE, CentroidDetector
from classifier.models import DistributionDetector, ModelVersion
from classifier.registry import artifact_store, detector_store, model_cache
from training.datasets import labelled_products
from training.datasets.labelled_products import LabelledProduct
from training.everyday.texts import everyday_titles
from training.models import Split

MAX_LEARNT, MAX_HELD_BACK = 6_000, 2_000  # products
ROWS = 2 * MAX_LEARNT + MAX_HELD_BACK  # at most: with as many everyday titles
MIN_ROWS = round(1 / (1 - QUANTILE))  # with fewer there is no such quantile

Values = npt.NDArray[np.float32]


def sample_products(
    products: Callable[[Sequence[str]], Iterable[LabelledProduct]],
) -> tuple[list[LabelledProduct], list[LabelledProduct]]:
    """Return random samples of the products that a version was trained on and of those that were held back.

    `products` yields the products of the given splits.
    """
    return labelled_products.sample_products(products([Split.TRAIN]), MAX_LEARNT), labelled_products.sample_products(
        products(labelled_products.HELD_BACK), MAX_HELD_BACK
    )


def fit_detector(
    version: ModelVersion,
    known: Sequence[LabelledProduct],
    held_back: Sequence[LabelledProduct],
    *,
    progress: Callable[[int], None],
) -> DistributionDetector | None:
    """Fit a detector on products that the version was trained on and on held-back ones; store it with the version.

    None where the version can read too few of them. Raises ArtifactError and StorageDown.
    """
    if _has_learnt_everyday_titles(version):
        # The centres then lie among everyday titles, too, and fewer of these count as far from everything known. They
        # aren't among the held-back rows: the model is less sure of them, and doubt would no longer be a sign.
        known = [*known, *_everyday_products(len(known))]
    model = model_cache.load_model(version)
    learnt, _confidence = _embed_products(model, version.modality, known, progress)
    others, confidence = _embed_products(model, version.modality, held_back, progress)
    if len(learnt) < MIN_ROWS:
        return None
    try:
        found = CentroidDetector.fit(learnt, others, confidence)
    except ValueError:  # too few held-back rows, or too few that are numbers
        return None
    figures = {
        "learnt_from": len(learnt),
        "held_back": len(others),
        "quantile": QUANTILE,
        "flagged": round(float(found.flags(others, confidence).mean()), 4),
        "engine": model.engine,
    }
    return detector_store.store_detector(version, found, figures)


def _has_learnt_everyday_titles(version: ModelVersion) -> bool:
    recipe = artifact_store.read_stored_config(version).get("recipe")
    return isinstance(recipe, dict) and bool(recipe.get("everyday_titles"))


def _everyday_products(count: int) -> list[LabelledProduct]:
    titles = (each for each in everyday_titles() if not each.is_held_back)
    products = (LabelledProduct(each.title, "", each.category, photo=lambda: None) for each in titles)
    return labelled_products.sample_products(products, count)


def _embed_products(
    model: Any, modality: str, products: Sequence[LabelledProduct], progress: Callable[[int], None]
) -> tuple[Values, Values]:
    """Return the products' embeddings (n, dim) and top probabilities (n,)."""
    embeddings, confidence = [], []
    for batch in labelled_products.product_batches(products, modality, model.labels):
        output = labelled_products.predict_products(model, batch)
        embeddings.append(output.embeddings)
        confidence.append(output.probabilities.max(axis=1))
        progress(len(batch))
    if not embeddings:
        return np.empty((0, 0), np.float32), np.empty(0, np.float32)
    return np.concatenate(embeddings), np.concatenate(confidence)
