"""Choose what a fit that continues from a live model learns again, so that it does not forget."""

import hashlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from classifier.models import ModelVersion, ReferenceProduct
from classifier.registry import model_cache
from training.acceptance.reference_answers import answer_products
from training.datasets import splits
from training.datasets.corpus import CorpusRow, row_key
from training.datasets.reference_set import open_photos, without_repeated
from training.models import Split

if TYPE_CHECKING:
    from training.datasets.corpus import Corpus

HELD_BACK = (Split.VALIDATION, Split.TEST)
# How confident a version must be of a stored product's category for its answer to be replayed as a label.
MIN_CONFIDENCE = 0.8
VALIDATION_SHARE = 4  # one in so many replayed products is used for validation


def replay_rows(version: ModelVersion, *, without: "Corpus") -> Iterator[CorpusRow]:
    """Yield the products that a fit of the corpus, continuing from the version, learns again.

    Labelled products come with their category, stored ones with the version's own answer where it is confident. Left
    out are the corpus's own training rows, and products that a held-back example repeats. Some of the rows are for
    validation; each label has one that is learnt. Raises ArtifactError and StorageDown.
    """
    learnt: set[str] = set()
    for product, label, photo in _labelled_products(version, _training_keys(without)):
        split = _split(product) if label in learnt else splits.TRAIN
        learnt.add(label)
        digest = hashlib.sha256(photo).hexdigest() if photo else ""
        yield CorpusRow("replay", str(product.pk), product.title, product.description, label, photo, digest, split)


def _labelled_products(
    version: ModelVersion, without: Collection[str]
) -> Iterator[tuple[ReferenceProduct, str, bytes | None]]:
    """Yield products with their label and their photo's file."""
    readable = ReferenceProduct.objects.replay().readable_by(version.modality).select_related("category")
    labelled = [product for product in readable.filter(category__is_active=True) if str(product) not in without]
    for product, photo in open_photos(without_repeated(labelled, HELD_BACK), version.modality):
        if product.category:
            yield product, product.category.slug, photo
    stored = without_repeated(list(readable.filter(category=None)), HELD_BACK)
    # The version is loaded only if there is something to ask it about.
    if not stored:
        return
    model = model_cache.load_model(version)
    choices: dict[int, str] = {}
    for answer in answer_products(model, version.modality, stored):
        if answer.confidence >= MIN_CONFIDENCE:
            choices[answer.product_id] = answer.first_choice
    confident = [product for product in stored if product.pk in choices]
    for product, photo in open_photos(confident, version.modality):
        yield product, choices[product.pk], photo


def _training_keys(corpus: "Corpus") -> set[str]:
    rows = corpus.split("train", columns=["source", "id"])
    return {row_key(row["source"], row["id"]) for row in rows}


def _split(product: ReferenceProduct) -> str:
    number = int.from_bytes(hashlib.sha256(str(product).encode()).digest()[:4], "big")
    return splits.TRAIN if number % VALIDATION_SHARE else splits.VALIDATION
