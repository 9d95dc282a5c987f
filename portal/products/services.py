import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone

from classifier.models import Category, Prediction
from classifier.serving import queue_metrics
from classifier.tasks import notify_workers_on_commit
from common import connections
from common.object_storage import StorageDown
from feedback.models import Feedback
from feedback.services import record_feedback
from portal.models import PhotoDraft, Product, User
from portal.products import photos, validators
from portal.products.photos import Photo

DRAFTS_LIVE = timedelta(days=1)
SHORTEST_PAUSE, LONGEST_PAUSE = 5, 600
Priority = Prediction.Priority


class QueueFull(Exception):
    """What waits already needs longer than MAX_QUEUE_SECONDS. `seconds`: when to try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"try again in {seconds} s")
        self.seconds = seconds


def check_queue(*, priority: Priority) -> None:
    """Raise QueueFull when a new prediction of this priority could not be answered in time.

    Bulk rows don't count for an interactive one, so that they never use up its share.
    """
    over = queue_metrics.current_load().seconds(priority) - settings.MAX_QUEUE_SECONDS
    if over > 0:
        raise QueueFull(round(min(max(over, SHORTEST_PAUSE), LONGEST_PAUSE)))


def keep_photo(*, seller: User, upload: "UploadedFile[Any]") -> PhotoDraft:
    """Clean and store an uploaded photo for the product that will take it. Raises PhotoError."""
    connections.release()  # decoding waits its turn
    copies = photos.clean_photo(upload, seller=seller.pk)
    photo = Photo.anew()
    # The row goes first: whatever the storage does, nothing lies there that no row names and no erasure would find.
    draft = PhotoDraft.objects.create(seller=seller, large=photo.large, small=photo.small)
    connections.release()  # the storage may be slow
    photos.store_photo(photo, copies)
    return draft


@transaction.atomic
def submit_product(
    *,
    seller: User,
    title: str = "",
    description: str = "",
    sku: str = "",
    draft: PhotoDraft | None = None,
    priority: Priority = Priority.INTERACTIVE,
) -> Product:
    """List a product and ask the models about it; at least a title or a photo is needed.

    Raises PhotoDraft.DoesNotExist when another product took the photo meanwhile.
    """
    photo = _take(draft)
    key = uuid.uuid4()
    prediction = _ask(product=key, seller=seller, title=title, description=description, photo=photo, priority=priority)
    return Product.objects.create(
        pk=key,
        seller=seller,
        title=title,
        description=description,
        sku=sku,
        prediction=prediction,
        **photo.as_fields(),
    )


@transaction.atomic
def edit_product(
    *,
    product: Product,
    title: str,
    description: str,
    sku: str,
    draft: PhotoDraft | None = None,
    remove_photo: bool = False,
) -> Product:
    """Change a product. When what the models see has changed they are asked again, and the answer is open again.

    Raises Product.DoesNotExist and PhotoDraft.DoesNotExist for what was deleted meanwhile, ValidationError when
    nothing would be left for the models to look at.
    """
    product = Product.objects.select_for_update(of=("self",)).get(pk=product.pk)
    photo = Photo(product.photo_large, product.photo_small)
    if draft or remove_photo:
        photo = _take(draft)
    validators.require_title_or_photo(title=title, has_photo=bool(photo))
    seen = (product.title, product.description, product.photo_small)
    product.title, product.description, product.sku = title, description, sku
    product.photo_large, product.photo_small = photo.large, photo.small
    if seen != (title, description, photo.small):
        product.prediction = _ask(
            product=product.pk, seller=product.seller, title=title, description=description, photo=photo
        )
        product.category = None
    product.save(
        update_fields=[
            "title", "description", "sku", "photo_large", "photo_small", "prediction", "category", "updated_at",
        ]
    )  # fmt: skip
    return product


@transaction.atomic
def ask_again(*, product: Product) -> Product:
    """Ask the models anew about a product whose prediction failed; anything else stays as it is.

    Raises Product.DoesNotExist when it was deleted meanwhile.
    """
    product = Product.objects.select_for_update(of=("self",)).select_related("prediction").get(pk=product.pk)
    if product.prediction.state == Prediction.State.FAILED:
        photo = Photo(product.photo_large, product.photo_small)
        product.prediction = _ask(
            product=product.pk,
            seller=product.seller,
            title=product.title,
            description=product.description,
            photo=photo,
        )
        product.save(update_fields=["prediction", "updated_at"])
    return product


@transaction.atomic
def answer(*, prediction: Prediction, category: Category | None, wish: str = "") -> Feedback:
    """Keep the seller's verdict and put the product on that shelf. Raises feedback.services.NotAnswerable."""
    feedback = record_feedback(prediction=prediction, category=category, wish=wish)
    Product.objects.filter(prediction=prediction).update(category=category, updated_at=timezone.now())
    return feedback


def delete_products(*, products: Iterable[Product]) -> int:
    """Take products off the list; what was predicted and answered stays as history. Return how many."""
    return Product.objects.filter(pk__in=[product.pk for product in products]).delete()[0]


def delete_stale_drafts() -> int:
    """Delete photos that no product took within a day; one that the storage refuses waits. Return how many."""
    stale = list(PhotoDraft.objects.filter(created_at__lt=timezone.now() - DRAFTS_LIVE).values_list("pk", flat=True))
    deleted = 0
    for pk in stale:
        with suppress(StorageDown), transaction.atomic():
            # Locked: should a product take the photo just now, one of the two finds no row.
            draft = PhotoDraft.objects.select_for_update(skip_locked=True).filter(pk=pk).first()
            if draft:
                photos.delete_photo(Photo(draft.large, draft.small))
                deleted += draft.delete()[0]
    return deleted


def _take(draft: PhotoDraft | None) -> Photo:
    """Return the draft's photo and end the draft. Raises PhotoDraft.DoesNotExist when it is gone."""
    if draft is None:
        return Photo()
    draft = PhotoDraft.objects.select_for_update().get(pk=draft.pk)
    photo = Photo(draft.large, draft.small)
    draft.delete()
    return photo


def _ask(
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
