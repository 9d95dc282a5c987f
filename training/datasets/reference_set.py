"""Sample the reference set from examples and stored products.

Its measuring part is read by the gate alone; its replay part is what a fit that continues from a live model may learn
again. Both are samples of the installation's own examples, at most `PER_CATEGORY` of a category with a photo and as
many without, together with the products that come with Aisle. Stored products, which have no label, show for
categories without a labelled product whether two versions agree.
"""

import io
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from django.core.files.storage import storages
from django.db import transaction
from django.db.models import Case, F, QuerySet, TextField, Value, When, Window
from django.db.models.functions import MD5, Concat, RowNumber
from PIL import Image

from classifier.modalities import MODALITIES
from classifier.models import Prediction, ReferenceAnswer, ReferenceProduct
from common.locks import Lock, lock_until_commit
from common.object_storage import storage_faults
from common.photos import copies
from training.datasets import splits
from training.models import FEEDBACK, Example, Split

PER_CATEGORY = 50
STORED_PRODUCTS = 300
STORED = "stored"  # the source of stored products
CHANGES_AT_ONCE = 500

# The part of the set by the example's split: only products that no fit reads may measure.
PARTS = {Split.TEST: ReferenceProduct.Part.MEASURE, Split.TRAIN: ReferenceProduct.Part.REPLAY}
COPIED_FIELDS = ("part", "title", "description", "category_id", "photo", "photo_digest")


@transaction.atomic
def refresh_reference_set() -> None:
    """Sample examples and stored products; add new ones, update changed ones, and delete those that left the sample.

    The sample of a category is the products with the lowest hashes of their ids, so it is random and changes little
    as products come and go.
    """
    # The examples' lock: none of them may be deleted while it is copied.
    lock_until_commit(Lock.EXAMPLE_SPLITS)
    sampled = {_key(product): product for product in [*_sample_examples(), *_sample_stored_products()]}
    own_products = ReferenceProduct.objects.exclude(origin=ReferenceProduct.Origin.STARTER)
    existing = {_key(product): product for product in own_products}
    own_products.filter(pk__in=[product.pk for key, product in existing.items() if key not in sampled]).delete()
    changed = []
    for key, product in existing.items():
        if key in sampled and _copy_fields(sampled[key], product):
            changed.append(product)
    # Answers to the earlier title or photo would be compared with answers to the new one.
    ReferenceAnswer.objects.filter(product__in=changed).delete()
    ReferenceProduct.objects.bulk_update(changed, COPIED_FIELDS, batch_size=CHANGES_AT_ONCE)
    new_products = [product for key, product in sampled.items() if key not in existing]
    ReferenceProduct.objects.bulk_create(new_products, batch_size=CHANGES_AT_ONCE)


def delete_products_of_predictions(predictions: Collection[str]) -> None:
    """Delete the products that were made from these predictions, whose seller is erased."""
    ReferenceProduct.objects.filter(source__in=[FEEDBACK, STORED], external_id__in=predictions).delete()


def without_repeated(products: Sequence[ReferenceProduct], splits_to_avoid: Collection[str]) -> list[ReferenceProduct]:
    """Return the products that no example of these splits repeats, by title or photo.

    Products that are examples themselves are never repeated there: similar examples share their split.
    """
    keys = {product.pk: splits.title_key(splits.title_words(product.title)) for product in products}
    examples = Example.objects.filter(split__in=splits_to_avoid)
    titles = set(_distinct_values(examples.filter(title_key__in=set(keys.values()) - {0}), "title_key"))
    digests = {product.photo_digest for product in products} - {""}
    photos = set(_distinct_values(examples.filter(photo_digest__in=digests), "photo_digest"))
    kept = []
    for product in products:
        is_repeated = keys[product.pk] in titles or product.photo_digest in photos
        if product.origin == ReferenceProduct.Origin.EXAMPLE or not is_repeated:
            kept.append(product)
    return kept


def open_photos(products: Sequence[ReferenceProduct], modality: str) -> Iterator[tuple[ReferenceProduct, bytes | None]]:
    """Yield the products with their photos' files; for images, products whose photo is gone are left out."""
    for product in products:
        if not MODALITIES[modality].reads_photo:
            yield product, None
            continue
        try:
            with storage_faults(), storages[product.photo_storage].open(product.photo) as file:
                yield product, file.read()
        except FileNotFoundError:
            continue


def decode_photo(photo: bytes) -> Image.Image | None:
    """Decode a photo's file; None for one that is broken."""
    try:
        return Image.open(io.BytesIO(photo)).convert("RGB")
    except copies.BROKEN:
        return None


def _sample_examples() -> Iterator[ReferenceProduct]:
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


def _sample_stored_products() -> Iterator[ReferenceProduct]:
    """Sample stored products by their ids, which are random; half of the titles are replayed, the others measure.

    The part depends on the words of the title, or on the photo where there is none, so that what was uploaded twice
    lies in one part only.
    """
    done = Prediction.objects.filter(state=Prediction.State.DONE).order_by("pk")
    columns = ("pk", "title", "description", "photo_small", "photo_hash")
    sampled = {row[0]: row for row in done.exclude(photo_small="").values_list(*columns)[:STORED_PRODUCTS]}
    sampled |= {row[0]: row for row in done.exclude(title="").values_list(*columns)[:STORED_PRODUCTS]}
    ids = [str(pk) for pk in sampled]
    labelled = set(_distinct_values(Example.objects.filter(source=FEEDBACK, external_id__in=ids), "external_id"))
    for pk, title, description, photo, photo_hash in sampled.values():
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


def _copy_fields(source: ReferenceProduct, target: ReferenceProduct) -> bool:
    """Copy the fields that may change; return whether one did."""
    is_changed = False
    for name in COPIED_FIELDS:
        if getattr(target, name) != getattr(source, name):
            setattr(target, name, getattr(source, name))
            is_changed = True
    return is_changed


def _distinct_values(rows: "QuerySet[Example]", name: str) -> "QuerySet[Example, Any]":
    return rows.order_by().values_list(name, flat=True).distinct()


def _key(product: ReferenceProduct) -> tuple[str, str]:
    return product.source, product.external_id
