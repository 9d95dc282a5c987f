"""Find other products of a seller that look like the same one, to warn of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.db import models
from django.utils.translation import gettext_lazy as _

from portal.models import Product, ProductQuerySet, User

MOST_SHOWN = 3
MOST_COMPARED = 200  # products with the same title, whose photos are compared
# Of 1,972 product photos of four data sets 99.3% still match when sent again at 90% of their size (JPEG quality 85),
# and 96.5% at 50% (quality 60). Of pairs of different photos 0.01% match; their titles have to be the same, too.
SAME_PHOTO_BITS = 5
HASH_MASK = (1 << 64) - 1


class DuplicateReason(models.TextChoices):
    """What two products have in common."""

    SKU = "same_sku", _("The same SKU")
    PHOTO = "same_title_and_photo", _("The same title and main photo")
    TEXT = "same_title_and_description", _("The same title and description, both without a photo")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Another product of the seller, and what it has in common with the one in question."""

    product: Product
    reason: DuplicateReason


def find_duplicates(product: Product, *, seller: User) -> list[Duplicate]:
    """Return the newest of a seller's other products that look like this one, each with one reason.

    Photos are compared once their predictions are done. Products in the trash don't count.
    """
    others = Product.objects.for_seller(seller).exclude(pk=product.pk).order_by("-created_at", "pk")
    reasons: dict[UUID, DuplicateReason] = {}
    for reason, keys in _matches(product, others):
        for key in keys:
            reasons.setdefault(key, reason)
    shown = Product.objects.in_bulk(list(reasons)[:MOST_SHOWN])
    return [Duplicate(shown[key], reason) for key, reason in reasons.items() if key in shown]


def _matches(product: Product, others: ProductQuerySet) -> Iterator[tuple[DuplicateReason, list[UUID]]]:
    if product.sku:
        yield DuplicateReason.SKU, list(others.with_sku(product.sku).values_list("pk", flat=True)[:MOST_SHOWN])
    same_title = others.filter(title=product.title)
    if product.photo_small:
        yield DuplicateReason.PHOTO, _with_same_photo(product, same_title)
    else:
        same_text = same_title.filter(description=product.description, photo_small="")
        yield DuplicateReason.TEXT, list(same_text.values_list("pk", flat=True)[:MOST_SHOWN])


def _with_same_photo(product: Product, others: ProductQuerySet) -> list[UUID]:
    photo = product.prediction.photo_hash
    if not photo:  # not computed yet, or 0: a photo that shows nothing
        return []
    hashes = others.exclude(photo_small="").values_list("pk", "prediction__photo_hash")[:MOST_COMPARED]
    return [key for key, other in hashes if other and _differing_bits(photo, other) <= SAME_PHOTO_BITS]


def _differing_bits(first: int, second: int) -> int:
    """Return in how many bits two signed 64-bit hashes differ."""
    return ((first ^ second) & HASH_MASK).bit_count()
