"""Assign photos to products: which photos a product has, and in which order.

The functions run in the transaction of a service that holds the product's lock or has just created it.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from django.utils import timezone

from classifier.models import Prediction
from portal.models import Product, ProductPhoto, User
from portal.products import validators
from portal.products.photos import Photo


def main_photo(photos: Sequence[ProductPhoto]) -> Photo:
    """Return the names of the first photo's copies, which models read."""
    return Photo(photos[0].large, photos[0].small) if photos else Photo()


def lock_photos(seller: User, keys: Sequence[UUID], *, product: Product | None = None) -> list[ProductPhoto]:
    """Lock a seller's photos that the product may have, and return them in the order of their keys.

    Raises ProductPhoto.DoesNotExist for one that is gone or belongs to another product, ValidationError for too many.
    """
    validators.validate_photo_count(len(keys))
    # Locked in one order, so that two requests for the same photos never wait for each other.
    locked = ProductPhoto.objects.for_seller(seller).select_for_update().filter(pk__in=keys).order_by("pk")
    found = {row.pk: row for row in locked if row.product_id in (None, product and product.pk)}
    if len(found) < len(set(keys)):
        raise ProductPhoto.DoesNotExist
    return [found[key] for key in dict.fromkeys(keys)]


def rearrange_photos(product: Product, photos: Sequence[ProductPhoto], removed: Collection[ProductPhoto]) -> Photo:
    """Give a locked product these photos and return the main one. `services.edit_product` describes the order."""
    removed_keys = {photo.pk for photo in removed}
    keys = [photo.pk for photo in photos] + [photo.pk for photo in _photos_of(product)]
    kept = lock_photos(product.seller, [key for key in dict.fromkeys(keys) if key not in removed_keys], product=product)
    dropped = ProductPhoto.objects.filter(product=product).exclude(pk__in=[photo.pk for photo in kept])
    dropped.update(product=None, position=0, created_at=timezone.now())
    assign_photos(product, kept)
    return main_photo(kept)


def assign_photos(product: Product, photos: Sequence[ProductPhoto]) -> None:
    """Store that locked photos belong to a product, in their order."""
    changed = []
    for position, photo in enumerate(photos):
        if (photo.product_id, photo.position) != (product.pk, position):
            photo.product, photo.position = product, position
            changed.append(photo)
    ProductPhoto.objects.bulk_update(changed, ["product", "position"])


def names_in_predictions(*, sellers: Collection[int], names: Collection[str]) -> set[str]:
    """Return those of the large copies' names that a prediction has."""
    found = Prediction.objects.filter(seller__in=sellers, photo_large__in=names)
    return set(found.order_by().values_list("photo_large", flat=True))


def _photos_of(product: Product) -> list[ProductPhoto]:
    """Return a locked product's photos in order."""
    photos = list(ProductPhoto.objects.filter(product=product).order_by("position"))
    main = Photo(product.photo_large, product.photo_small)
    if main and main.large not in [photo.large for photo in photos]:
        # A web process of the version before, at work during an upgrade, wrote the product without this row.
        row = ProductPhoto(seller=product.seller, product=product, large=main.large, small=main.small)
        row.position = len(photos)
        row.save(force_insert=True)
        photos.insert(0, row)
    return photos
