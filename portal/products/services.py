"""List, change and delete products, and store their photos and answers."""

import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from classifier.models import Category, Prediction
from classifier.serving import queue_metrics
from classifier.tasks import notify_workers_on_commit
from common import connections
from common.object_storage import StorageDown
from common.photos.decoder_pool import Copies
from feedback.models import Feedback
from feedback.services import record_feedback
from portal.models import Product, ProductPhoto, User
from portal.products import photo_rows, validators
from portal.products.languages import product_language
from portal.products.photos import Photo, PhotoError, clean_photos, delete_photo, store_photo

DRAFTS_LIVE = timedelta(days=1)
DRAFTS_AT_ONCE = 200
SHORTEST_PAUSE, LONGEST_PAUSE = 5, 600
Priority = Prediction.Priority


class QueueFull(Exception):
    """Processing the queue would take longer than MAX_QUEUE_SECONDS. `seconds`: when to try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"try again in {seconds} s")
        self.seconds = seconds


def check_queue(*, priority: Priority) -> None:
    """Raise QueueFull when a new prediction of this priority could not be finished in time.

    Bulk rows don't count against an interactive one, which is processed before them.
    """
    over = queue_metrics.current_load().seconds(priority) - settings.MAX_QUEUE_SECONDS
    if over > 0:
        raise QueueFull(round(min(max(over, SHORTEST_PAUSE), LONGEST_PAUSE)))


def create_photo_draft(*, seller: User, upload: "UploadedFile[Any]") -> ProductPhoto:
    """Decode and store an uploaded photo for the product that will take it. Raises PhotoError."""
    (draft,) = create_photo_drafts(seller=seller, uploads=[upload])
    return draft


def create_photo_drafts(*, seller: User, uploads: "Sequence[UploadedFile[Any]]") -> list[ProductPhoto]:
    """Decode the photos of a request and, if all can be decoded, store them. Raises PhotoError for the first other."""
    decoded = []
    for result in decode_photos(seller=seller, uploads=uploads):
        if isinstance(result, PhotoError):
            raise result
        decoded.append(result)
    return [store_photo_draft(seller=seller, copies=copies) for copies in decoded]


def decode_photos(*, seller: User, uploads: "Sequence[UploadedFile[Any]]") -> list[Copies | PhotoError]:
    """Return for each photo of a request its clean copies or why it was rejected; nothing is stored."""
    connections.release()  # decoding waits until it is the seller's turn
    return clean_photos(uploads, seller=seller.pk)


def store_photo_draft(*, seller: User, copies: Copies) -> ProductPhoto:
    """Store a decoded photo for the product that will take it. Raises PhotoError when the storage is down."""
    photo = Photo.with_new_names()
    # The row comes first: a file that no row names would be found by no erasure, even if the storage fails midway.
    draft = ProductPhoto.objects.create(seller=seller, large=photo.large, small=photo.small)
    connections.release()  # the storage may be slow
    store_photo(photo, copies)
    return draft


@transaction.atomic
def submit_product(
    *,
    seller: User,
    title: str = "",
    description: str = "",
    sku: str = "",
    photos: Sequence[ProductPhoto] = (),
    priority: Priority = Priority.INTERACTIVE,
) -> Product:
    """Create a product with these photos, the main one first, and queue its prediction; a title or a photo is required.

    Raises ProductPhoto.DoesNotExist when another product has taken a photo, ValidationError for too many photos.
    """
    taken = photo_rows.lock_photos(seller, [photo.pk for photo in photos])
    photo = photo_rows.main_photo(taken)
    key = uuid.uuid4()
    prediction = _queue_prediction(
        product=key, seller=seller, title=title, description=description, photo=photo, priority=priority
    )
    product = Product.objects.create(
        pk=key,
        seller=seller,
        title=title,
        description=description,
        sku=sku,
        language=product_language(title, description),
        prediction=prediction,
        **photo.as_fields(),
    )
    photo_rows.assign_photos(product, taken)
    return product


@transaction.atomic
def edit_product(
    *,
    product: Product,
    title: str | None = None,
    description: str | None = None,
    sku: str | None = None,
    photos: Sequence[ProductPhoto] = (),
    removed_photos: Collection[ProductPhoto] = (),
    priority: Priority = Priority.INTERACTIVE,
) -> Product:
    """Change the given values of a product. When text or main photo change, queue a prediction; the answer is kept.

    `photos` come first, in this order; photos of the product that are neither among them nor removed follow them.
    Raises Product.DoesNotExist and ProductPhoto.DoesNotExist for what has been deleted, ValidationError when neither
    title nor photo would be left, or too many photos.
    """
    # Locked, so that edits in two tabs are applied one after the other and not mixed.
    product = Product.objects.select_for_update(of=("self",)).get(pk=product.pk, deleted_at=None)
    photo = Photo(product.photo_large, product.photo_small)
    if photos or removed_photos:
        photo = photo_rows.rearrange_photos(product, photos, removed_photos)
    # What is not given is read under the lock: of two simultaneous changes of different fields both are kept.
    title = product.title if title is None else title
    description = product.description if description is None else description
    sku = product.sku if sku is None else sku
    validators.require_title_or_photo(title=title, has_photo=bool(photo))
    seen = (product.title, product.description, product.photo_small)
    product.title, product.description, product.sku = title, description, sku
    product.language = product_language(title, description)
    product.photo_large, product.photo_small = photo.large, photo.small
    # The SKU is not read by models: changing it keeps prediction and answer.
    if seen != (title, description, photo.small):
        product.prediction = _queue_prediction(
            product=product.pk,
            seller=product.seller,
            title=title,
            description=description,
            photo=photo,
            priority=priority,
        )
    # Without category and answer: only the seller's next answer changes them, which may be stored at this moment.
    product.save(
        update_fields=[
            "title", "description", "sku", "language", "photo_large", "photo_small", "prediction", "updated_at",
        ]
    )  # fmt: skip
    return product


@transaction.atomic
def retry_prediction(*, product: Product) -> Product:
    """Queue another prediction of a product whose prediction failed; do nothing in any other state.

    Raises Product.DoesNotExist when it has been deleted.
    """
    products = Product.objects.select_for_update(of=("self",)).select_related("prediction")
    product = products.get(pk=product.pk, deleted_at=None)
    if product.prediction.state == Prediction.State.FAILED:
        photo = Photo(product.photo_large, product.photo_small)
        product.prediction = _queue_prediction(
            product=product.pk,
            seller=product.seller,
            title=product.title,
            description=product.description,
            photo=photo,
        )
        product.save(update_fields=["prediction", "updated_at"])
    return product


@transaction.atomic
def record_answer(*, prediction: Prediction, category: Category | None, wish: str = "") -> Feedback:
    """Store the seller's answer as the product's, with its category. Raises feedback.services.NotAnswerable.

    An answer to an earlier prediction is the product's only where it replaces the one that the product has kept.
    """
    feedback = record_feedback(prediction=prediction, category=category, wish=wish)
    answered = Product.objects.filter(Q(prediction=prediction) | Q(answer=feedback))
    answered.update(category=feedback.category, answer=feedback, updated_at=timezone.now())
    return feedback


def trash_products(*, products: QuerySet[Product], at: datetime | None = None) -> int:
    """Move products to the trash and return how many; a prediction that is still awaited is finished all the same."""
    # Guarded, so that the second of two deletions changes nothing: the product keeps its time.
    return products.filter(deleted_at=None).update(deleted_at=at or timezone.now())


def restore_products(*, products: QuerySet[Product]) -> int:
    """Take products out of the trash and return how many."""
    return products.filter(deleted_at__isnull=False).update(deleted_at=None)


@transaction.atomic
def delete_trashed_products(*, products: QuerySet[Product]) -> int:
    """Delete products in the trash permanently and return how many; predictions and answers stay as history."""
    # Locked and checked again: one that was restored a moment ago is not deleted.
    locked = products.select_for_update(of=("self",)).filter(deleted_at__isnull=False)
    ids = list(locked.values_list("pk", flat=True))
    _total, by_model = Product.objects.filter(pk__in=ids).delete()
    return by_model.get(Product._meta.label, 0)


def delete_stale_drafts() -> int:
    """Delete photos that have belonged to no product for a day, and return how many.

    The files of those that a prediction names stay: they are its history, which ends with the prediction. What the
    storage refuses is tried again later.
    """
    stale = ProductPhoto.objects.drafts().filter(created_at__lt=timezone.now() - DRAFTS_LIVE)
    rows = list(stale.order_by("created_at").values_list("pk", "seller", "large"))
    deleted = 0
    for start in range(0, len(rows), DRAFTS_AT_ONCE):
        some = rows[start : start + DRAFTS_AT_ONCE]
        # A photo that a product takes now, and loses again, is no longer stale: this stays true for all that are.
        named = photo_rows.names_in_predictions(
            sellers={seller for _pk, seller, _large in some}, names={large for _pk, _seller, large in some}
        )
        for pk, _seller, large in some:
            with suppress(StorageDown), transaction.atomic():
                # The lock decides a race with a product that takes the photo now: one of the two finds no row.
                draft = stale.select_for_update(skip_locked=True).filter(pk=pk).first()
                if draft and large not in named:
                    delete_photo(Photo(draft.large, draft.small))
                if draft:
                    deleted += draft.delete()[0]
    return deleted


def _queue_prediction(
    *,
    product: uuid.UUID,
    seller: User,
    title: str,
    description: str,
    photo: Photo,
    priority: Priority = Priority.INTERACTIVE,
) -> Prediction:
    prediction = Prediction.objects.create(
        seller=seller,
        title=title,
        description=description,
        priority=priority,
        variant_key=product,
        **photo.as_fields(),
    )
    notify_workers_on_commit()
    return prediction
