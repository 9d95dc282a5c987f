"""Answer the reference set with model versions, and keep the answers so that any two versions can be compared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from django.db import transaction
from PIL import Image

from classifier.evaluation.category_coverage import active_categories
from classifier.evaluation.reference_set import labelled_count, offer_hash
from classifier.ml.artifact import ArtifactError
from classifier.ml.classifier import Classifier
from classifier.ml.ensemble import align_columns
from classifier.modalities import MODALITIES
from classifier.models import Category, Modality, ModelVersion, ReferenceAnswer, ReferenceProduct
from classifier.registry import model_cache, traffic
from common.locks import Lock, lock_until_commit
from training.datasets.labelled_products import predict_products
from training.datasets.reference_set import decode_photo, open_photos, without_repeated
from training.models import Split

ROWS_AT_ONCE = 64
CHANGES_AT_ONCE = 500
LATEST_VERSIONS = 5  # of each modality, which are measured without a request

Progress = Callable[[int], None]
ProductWithPhoto = tuple[ReferenceProduct, Image.Image | None]


def measuring_products(modality: str) -> list[ReferenceProduct]:
    """Return the products that versions of the modality are compared on.

    Left out are starter products that a training example repeats: a candidate has learnt their label.
    """
    products = list(ReferenceProduct.objects.counted(modality).select_related("category"))
    return without_repeated(products, (Split.TRAIN, Split.VALIDATION))


def unmeasured_versions() -> list[ModelVersion]:
    """Return versions that a person may deploy or roll back to soon and that lack answers for today's categories.

    Empty for a modality with a single version: there is nothing to compare it with.
    """
    unmeasured, offer = [], offer_hash(active_categories())
    for modality in Modality.values:
        versions = ModelVersion.objects.filter(modality=modality, state=ModelVersion.State.REGISTERED)
        if len(versions.order_by()[:2]) < 2 or not labelled_count(modality):
            continue
        latest = list(versions.defer("metrics").order_by("-pk")[:LATEST_VERSIONS])
        live = [variant.version for variant in traffic.live_variants(modality)]
        measured = ReferenceAnswer.objects.filter(offer=offer)
        for version in dict.fromkeys([*latest, *live]):
            if not measured.filter(version=version).exists():
                unmeasured.append(version)
    return unmeasured


def measure_version(
    version: ModelVersion, products: Sequence[ReferenceProduct], progress: Progress = lambda rows: None
) -> list[ReferenceAnswer]:
    """Answer the products with a registered version, and store the answers in place of its earlier ones.

    Raises ArtifactError and StorageDown when the version can't be loaded.
    """
    model = model_cache.load_model(version)
    found = answer_products(model, version.modality, products, progress)
    store_answers(version, found)
    return found


@transaction.atomic
def store_answers(version: ModelVersion, found: Iterable[ReferenceAnswer]) -> None:
    """Store a version's answers in place of earlier ones."""
    # A run, the hourly task and a person may measure the same version at the same time.
    lock_until_commit(Lock.REFERENCE_ANSWERS, version.pk)
    ReferenceAnswer.objects.filter(version=version).delete()
    rows = list(found)
    for row in rows:
        row.version = version
    # A product may have been erased or replaced since it was answered: its answer would break the foreign key.
    product_ids = [row.product_id for row in rows]
    existing = set(ReferenceProduct.objects.filter(pk__in=product_ids).values_list("pk", flat=True))
    kept = [row for row in rows if row.product_id in existing]
    ReferenceAnswer.objects.bulk_create(kept, batch_size=CHANGES_AT_ONCE)


def answer_products(
    model: Classifier, modality: str, products: Sequence[ReferenceProduct], progress: Progress = lambda rows: None
) -> list[ReferenceAnswer]:
    """Return a loaded model's answer for each product, not stored yet; products whose photo is gone are left out.

    As in serving, probabilities are spread over all categories and the first choice is an active one. Raises
    ArtifactError for a model that knows no active category, and StorageDown.
    """
    slugs = list(Category.objects.order_by("slug").values_list("slug", flat=True))
    active = active_categories()
    offered, offer = np.array([slug in active for slug in slugs]), offer_hash(active)
    if not set(model.labels) & set(active):
        raise ArtifactError("The model knows none of the active categories.")
    found = []
    for batch in _batches(products, modality):
        output = predict_products(model, batch)
        probabilities = align_columns(output.probabilities, model.labels, slugs)
        for (product, _photo), row in zip(batch, np.where(offered, probabilities, 0), strict=True):
            found.append(_answer(product, row, slugs, offer))
        progress(len(batch))
    return found


def _batches(products: Sequence[ReferenceProduct], modality: str) -> Iterator[list[ProductWithPhoto]]:
    readable = _readable_products(products, modality)
    while batch := list(islice(readable, ROWS_AT_ONCE)):
        yield batch


def _readable_products(products: Sequence[ReferenceProduct], modality: str) -> Iterator[ProductWithPhoto]:
    for product, file in open_photos(products, modality):
        photo = decode_photo(file) if file else None
        if photo or not MODALITIES[modality].reads_photo:
            yield product, photo


def _answer(product: ReferenceProduct, row: np.ndarray, slugs: Sequence[str], offer: str) -> ReferenceAnswer:
    """Return the answer for probabilities (categories,) in the order of the slugs, 0 for inactive categories."""
    first = int(row.argmax())
    answer = ReferenceAnswer(product=product, first_choice=slugs[first], confidence=float(row[first]), offer=offer)
    if product.category:
        own = slugs.index(product.category.slug)
        answer.probability = float(row[own])
        # Of equal probabilities the earlier one ranks higher, as argmax does: a category that the model doesn't know,
        # with 0, never gets rank 0.
        answer.rank = int((row > row[own]).sum() + (row[:own] == row[own]).sum())
    return answer
