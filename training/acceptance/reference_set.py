"""The reference set: kept up to date from examples and stored products, replayed in training, answered by versions.

Its measuring part is read by the gate alone; its replay part is what a fit that goes on from a live model may learn
again. Both are samples of the installation's own examples, at most `PER_CATEGORY` a category with a photo
and as many without, beside the products that come with Aisle. Where a category has no labelled product, stored
products show at least whether two versions agree.
"""

import hashlib
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.files.storage import storages
from django.db import transaction
from django.db.models import Case, F, QuerySet, TextField, Value, When, Window
from django.db.models.functions import MD5, Concat, RowNumber
from PIL import Image

from classifier.evaluation.category_coverage import active_categories
from classifier.evaluation.reference_set import labelled_count, offer_hash
from classifier.ml.artifact import ArtifactError
from classifier.ml.ensemble import align_columns
from classifier.models import Category, Modality, ModelVersion, Prediction, ReferenceAnswer, ReferenceProduct
from classifier.registry import model_cache, traffic
from common.locks import Lock, lock_until_commit
from common.object_storage import storage_faults
from common.photos import copies
from training.datasets import splits
from training.datasets.corpus import CorpusRow, row_key
from training.datasets.labelled_products import ask
from training.models import FEEDBACK, Example, Split

if TYPE_CHECKING:
    from training.datasets.corpus import Corpus

PER_CATEGORY = 50
STORED_PRODUCTS = 300
STORED = "stored"  # the source of stored products
ROWS_AT_ONCE = 64
CHANGES_AT_ONCE = 500
LATEST = 5  # versions of each modality that are measured without being asked for

# Part of the set by the example's part of the data: what a fit never reads measures.
PARTS = {Split.TEST: ReferenceProduct.Part.MEASURE, Split.TRAIN: ReferenceProduct.Part.REPLAY}
COPIED = ("part", "title", "description", "category_id", "photo", "photo_digest")

# How sure a model must be of a stored product's category for its answer to be replayed as a label.
SURE = 0.8
VALIDATION_SHARE = 4  # one in so many replayed products validates instead of being learnt

Progress = Callable[[int], None]
Labelled = tuple[ReferenceProduct, Image.Image | None]


@transaction.atomic
def refresh_reference_set() -> None:
    """Bring the set up to date: sample examples and stored products, drop what is gone, take over what changed.

    The sample of a category is the products with the lowest hashes of their ids, so it is random and changes little
    as products come and go.
    """
    lock_until_commit(Lock.EXAMPLE_SPLITS)  # no example may be dropped while it is copied
    wanted = {_key(product): product for product in [*_from_examples(), *_from_stored_products()]}
    own = ReferenceProduct.objects.exclude(origin=ReferenceProduct.Origin.STARTER)
    known = {_key(product): product for product in own}
    own.filter(pk__in=[product.pk for key, product in known.items() if key not in wanted]).delete()
    changed = []
    for key, product in known.items():
        if key in wanted and any(getattr(product, name) != getattr(wanted[key], name) for name in COPIED):
            for name in COPIED:
                setattr(product, name, getattr(wanted[key], name))
            changed.append(product)
    ReferenceAnswer.objects.filter(product__in=changed).delete()
    ReferenceProduct.objects.bulk_update(changed, COPIED, batch_size=CHANGES_AT_ONCE)
    fresh = [product for key, product in wanted.items() if key not in known]
    ReferenceProduct.objects.bulk_create(fresh, batch_size=CHANGES_AT_ONCE)


def delete_products_of_predictions(predictions: Collection[str]) -> None:
    """Remove the products that were made from these predictions, whose seller is erased."""
    ReferenceProduct.objects.filter(source__in=[FEEDBACK, STORED], external_id__in=predictions).delete()


def measuring_products(modality: str) -> list[ReferenceProduct]:
    """Return the products that versions of the modality are compared on.

    Left out are starter products that a training example repeats: a candidate would know them by heart.
    """
    products = list(ReferenceProduct.objects.counted(modality).select_related("category"))
    return _without_repeated(products, (Split.TRAIN, Split.VALIDATION))


def unmeasured_versions() -> list[ModelVersion]:
    """Return versions that a person may deploy or roll back to soon and that have no answers for today's categories.

    None while a modality has one version: there is nothing to compare it with.
    """
    found, offer = [], offer_hash(active_categories())
    for modality in Modality.values:
        versions = ModelVersion.objects.filter(modality=modality, state=ModelVersion.State.REGISTERED)
        latest = list(versions.defer("metrics").order_by("-pk")[:LATEST])
        recent = [*latest, *(variant.version for variant in traffic.live_variants(modality))]
        if len(versions.order_by()[:2]) > 1 and labelled_count(modality):
            measured = ReferenceAnswer.objects.filter(offer=offer)
            found += [version for version in dict.fromkeys(recent) if not measured.filter(version=version).exists()]
    return found


def measure_version(
    version: ModelVersion, products: Sequence[ReferenceProduct], progress: Progress = lambda rows: None
) -> list[ReferenceAnswer]:
    """Answer the products with a registered version, and keep that in place of what it answered before.

    Raises ArtifactError and StorageDown when the version can't be loaded.
    """
    model = model_cache.load_text(version) if version.modality == Modality.TEXT else model_cache.load_image(version)
    found = answer_products(model, version.modality, products, progress)
    store_answers(version, found)
    return found


@transaction.atomic
def store_answers(version: ModelVersion, found: Iterable[ReferenceAnswer]) -> None:
    """Store a version's answers in place of earlier ones."""
    # A run, the hourly task and a person may measure the same version at the same time.
    lock_until_commit(Lock.REFERENCE_ANSWERS, version.pk)
    ReferenceAnswer.objects.filter(version=version).delete()
    for answer in (rows := list(found)):
        answer.version = version
    # A product that was erased or replaced meanwhile takes its answer along.
    still = set(ReferenceProduct.objects.filter(pk__in=[row.product_id for row in rows]).values_list("pk", flat=True))
    ReferenceAnswer.objects.bulk_create([row for row in rows if row.product_id in still], batch_size=CHANGES_AT_ONCE)


def answer_products(
    model: Any, modality: str, products: Sequence[ReferenceProduct], progress: Progress = lambda rows: None
) -> list[ReferenceAnswer]:
    """Return what a loaded model answers for each product, without a version; one whose photo is gone is left out.

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
        output = ask(model, modality, batch)
        probabilities = align_columns(output.probabilities, model.labels, slugs)
        for (product, _photo), row in zip(batch, np.where(offered, probabilities, 0), strict=True):
            found.append(_answer(product, row, slugs, offer))
        progress(len(batch))
    return found


def replay_rows(version: ModelVersion, *, besides: "Corpus") -> Iterator[CorpusRow]:
    """Yield what a fit of the corpus that goes on from the version learns again, so as not to forget it.

    Labelled products come with their category, stored ones with the version's own answer where it is sure of it. Left
    out are the corpus's own training rows, and products that a held-back example repeats. A part of the rows validates;
    each label has one that is learnt. Raises ArtifactError and StorageDown.
    """
    learnt: set[str] = set()
    for product, label, photo in _replayed(version, _training_rows(besides)):
        split = _part(product) if label in learnt else splits.TRAIN
        learnt.add(label)
        digest = hashlib.sha256(photo).hexdigest() if photo else ""
        yield CorpusRow("replay", str(product.pk), product.title, product.description, label, photo, digest, split)


def _replayed(version: ModelVersion, besides: Collection[str]) -> Iterator[tuple[ReferenceProduct, str, bytes | None]]:
    """Yield products with their label and their photo's file."""
    readable = ReferenceProduct.objects.replay().readable_by(version.modality).select_related("category")
    labelled = [product for product in readable.filter(category__is_active=True) if str(product) not in besides]
    for product, photo in _opened(_without_repeated(labelled, (Split.VALIDATION, Split.TEST)), version.modality):
        assert product.category  # noqa: S101 - it was filtered by it
        yield product, product.category.slug, photo
    stored = _without_repeated(list(readable.filter(category=None)), (Split.VALIDATION, Split.TEST))
    if not stored:
        return
    model = model_cache.load_text(version) if version.modality == Modality.TEXT else model_cache.load_image(version)
    choices = {
        a.product_id: a.first_choice for a in answer_products(model, version.modality, stored) if a.confidence >= SURE
    }
    sure = [product for product in stored if product.pk in choices]
    for product, photo in _opened(sure, version.modality):
        yield product, choices[product.pk], photo


def _from_examples() -> Iterator[ReferenceProduct]:
    order = MD5(Concat("source", Value("/"), "external_id", output_field=TextField()))
    has_photo = Case(When(photo="", then=False), default=True)
    place = Window(RowNumber(), partition_by=[F("category"), F("split"), has_photo], order_by=order)
    sampled = Example.objects.usable().filter(split__in=PARTS).annotate(place=place).filter(place__lte=PER_CATEGORY)
    for example in sampled.defer("bands").iterator(chunk_size=CHANGES_AT_ONCE):
        yield ReferenceProduct(
            origin=ReferenceProduct.Origin.EXAMPLE,
            source=example.source,
            external_id=example.external_id,
            part=PARTS[Split(example.split)],
            title=example.title,
            description=example.description,
            category_id=example.category_id,
            photo=example.photo,
            photo_digest=example.photo_digest,
        )


def _from_stored_products() -> Iterator[ReferenceProduct]:
    """Sample stored products by their ids, which are random; one in two titles is replayed, the other measures.

    The part follows from the words of the title, or from the photo where there is none, so that what was uploaded twice
    lies in one part only.
    """
    done = Prediction.objects.filter(state=Prediction.State.DONE).order_by("pk")
    columns = ("pk", "title", "description", "photo_small", "photo_hash")
    some = {row[0]: row for row in done.exclude(photo_small="").values_list(*columns)[:STORED_PRODUCTS]}
    some |= {row[0]: row for row in done.exclude(title="").values_list(*columns)[:STORED_PRODUCTS]}
    names = [str(pk) for pk in some]
    labelled = set(_values(Example.objects.filter(source=FEEDBACK, external_id__in=names), "external_id"))
    for pk, title, description, photo, photo_hash in some.values():
        if str(pk) in labelled:
            continue
        key = splits.title_key(splits.title_words(title)) or photo_hash or pk.int
        yield ReferenceProduct(
            origin=ReferenceProduct.Origin.STORED,
            source=STORED,
            external_id=str(pk),
            part=ReferenceProduct.Part.REPLAY if key % 2 else ReferenceProduct.Part.MEASURE,
            title=title,
            description=description,
            photo=photo,
            prediction_id=pk,
        )


def _without_repeated(products: Sequence[ReferenceProduct], parts: Collection[str]) -> list[ReferenceProduct]:
    """Return the products without those that examples of these parts of the data repeat.

    Products that are examples themselves are never repeated there: near ones share their part.
    """
    keys = {product.pk: splits.title_key(splits.title_words(product.title)) for product in products}
    theirs = Example.objects.filter(split__in=parts)
    titles = set(_values(theirs.filter(title_key__in=set(keys.values()) - {0}), "title_key"))
    digests = {product.photo_digest for product in products} - {""}
    photos = set(_values(theirs.filter(photo_digest__in=digests), "photo_digest"))
    return [
        product
        for product in products
        if product.origin == ReferenceProduct.Origin.EXAMPLE
        or (keys[product.pk] not in titles and product.photo_digest not in photos)
    ]


def _values(rows: "QuerySet[Example]", name: str) -> "QuerySet[Example, Any]":
    return rows.order_by().values_list(name, flat=True).distinct()


def _batches(products: Sequence[ReferenceProduct], modality: str) -> Iterator[list[Labelled]]:
    found = ((product, photo and _decoded(photo)) for product, photo in _opened(products, modality))
    readable = ((product, photo) for product, photo in found if photo or modality == Modality.TEXT)
    while batch := list(islice(readable, ROWS_AT_ONCE)):
        yield batch  # type: ignore[misc]


def _opened(products: Sequence[ReferenceProduct], modality: str) -> Iterator[tuple[ReferenceProduct, bytes | None]]:
    """Yield the products with their photos' files, those that the image model is to see; without one that is gone."""
    for product in products:
        if modality == Modality.TEXT:
            yield product, None
            continue
        try:
            with storage_faults(), storages[product.photo_storage].open(product.photo) as file:
                yield product, file.read()
        except FileNotFoundError:
            continue


def _decoded(photo: bytes) -> Image.Image | None:
    try:
        return Image.open(io.BytesIO(photo)).convert("RGB")
    except copies.BROKEN:
        return None


def _answer(product: ReferenceProduct, row: np.ndarray, slugs: Sequence[str], offer: str) -> ReferenceAnswer:
    """Return the answer of probabilities (categories,) over the slugs, those that are not offered being 0."""
    first = int(row.argmax())
    answer = ReferenceAnswer(product=product, first_choice=slugs[first], confidence=float(row[first]), offer=offer)
    if product.category:
        own = slugs.index(product.category.slug)
        answer.probability = float(row[own])
        # Of equals the earlier one counts as likelier: a category that a model doesn't know is never its first choice.
        answer.rank = int((row > row[own]).sum() + (row[:own] == row[own]).sum())
    return answer


def _training_rows(corpus: "Corpus") -> set[str]:
    rows = corpus.split("train", columns=["source", "id"])
    return {row_key(row["source"], row["id"]) for row in rows}


def _part(product: ReferenceProduct) -> str:
    number = int.from_bytes(hashlib.sha256(str(product).encode()).digest()[:4], "big")
    return splits.TRAIN if number % VALIDATION_SHARE else splits.VALIDATION


def _key(product: ReferenceProduct) -> tuple[str, str]:
    return product.source, product.external_id
