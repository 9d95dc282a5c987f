"""Plan which shop lists which product when, and submit the products to the models."""

import io
import math
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from PIL import Image, ImageEnhance, ImageOps

from classifier.models import Category, Prediction
from classifier.serving.batch import classify_claimed
from portal.demo.catalogue import GROCERIES, Catalogue, DrawnProduct
from portal.demo.shops import GERMAN, Shop
from portal.models import Product, ProductPhoto
from portal.products.languages import product_language
from portal.products.photos import Photo, clean_photo, store_photo

DAYS = 14  # whole days before today
GERMAN_DAYS = 2  # of these, the last ones in which the German shops are there too
GERMAN_GROWTH = 1.6  # times as many products as without them
HOURS = range(6, 23)
BUSIEST_HOUR, SPREAD_HOURS = 14.5, 5.0
WEEKEND_SHARE = 0.75  # of a weekday's products
OWN_CATEGORIES_SHARE = 0.85
NO_CATEGORY_SHARE = 0.045
DAMAGED_SHARE = 0.008  # of the photos
SEVERAL_PHOTOS_SHARE = 0.3  # of the products with a photo
BATCH = 32
ROWS_AT_ONCE = 200
LATEST = timedelta(minutes=20)  # before now: a seller needs some time to answer

Progress = Callable[[int], object]


@dataclass
class Listing:
    """A product of a shop, at the time when it was listed. Its ids come from the demo's random numbers.

    The product's id decides which model version answers, so the same ids give the same split of the traffic.
    """

    product_id: uuid.UUID
    prediction_id: uuid.UUID
    shop: Shop
    product: DrawnProduct
    at: datetime
    is_damaged: bool = False


def midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def random_id(chance: random.Random) -> uuid.UUID:
    return uuid.UUID(int=chance.getrandbits(128), version=4)


def plan_listings(
    chance: random.Random, catalogue: Catalogue, shops: Sequence[Shop], *, products: int, now: datetime
) -> list[Listing]:
    """Return about `products` listings of the last two weeks, the oldest first, none of them after now."""
    first = midnight(now) - timedelta(days=DAYS)
    categories = list(Category.objects.order_by("slug").values_list("slug", flat=True))
    listings = []
    for day in range(DAYS + 1):
        start = first + timedelta(days=day)
        with_german = day >= DAYS - GERMAN_DAYS
        open_shops = [shop for shop in shops if with_german or shop.kind != GERMAN]
        weights = [shop.weight for shop in open_shops]
        count = products / (DAYS + 0.5)
        if start.weekday() >= 5:
            count *= WEEKEND_SHARE
        if with_german:
            count *= GERMAN_GROWTH
        # Today's products are drawn for the whole day and then cut off: the hour of the first `make demo` then
        # changes nothing in the days before.
        for at in sorted(start + _time_of_day(chance) for _number in range(math.ceil(count))):
            [shop] = chance.choices(open_shops, weights)
            product = _draw(chance, catalogue, shop, categories)
            is_damaged = product.photo is not None and chance.random() < DAMAGED_SHARE
            listings.append(Listing(random_id(chance), random_id(chance), shop, product, at, is_damaged))
    return [listing for listing in listings if listing.at < now - LATEST]


def _time_of_day(chance: random.Random) -> timedelta:
    weights = [math.exp(-(((hour - BUSIEST_HOUR) / SPREAD_HOURS) ** 2)) for hour in HOURS]
    [hour] = chance.choices(HOURS, weights)
    return timedelta(hours=hour + chance.random())


def _draw(chance: random.Random, catalogue: Catalogue, shop: Shop, categories: Sequence[str]) -> DrawnProduct:
    if shop.kind == GERMAN:
        return catalogue.draw_german(chance)
    if chance.random() < NO_CATEGORY_SHARE:
        return catalogue.draw_without_category(chance)
    if chance.random() < shop.groceries:
        return catalogue.draw_with_photo(chance)
    own = [*shop.categories, GROCERIES] if chance.random() < OWN_CATEGORIES_SHARE else categories
    return catalogue.draw(chance, category=chance.choice(own))


def submit_listings(chance: random.Random, listings: Sequence[Listing], *, progress: Progress) -> None:
    """Store products, photos and queued predictions of the listings, as `portal.products.services` does one by one."""
    for start in range(0, len(listings), ROWS_AT_ONCE):
        some = listings[start : start + ROWS_AT_ONCE]
        photos = []
        further = []
        for listing in some:
            photos.append(_store_photo(chance, listing))
            further.append(_store_further_photos(listing))
            progress(1)
        Prediction.objects.bulk_create(
            Prediction(
                pk=listing.prediction_id,
                variant_key=listing.product_id,
                seller=listing.shop.user,
                title=listing.product.title,
                description=listing.product.description,
                created_at=listing.at,
                **photo.as_fields(),
            )
            for listing, photo in zip(some, photos, strict=True)
        )
        Product.objects.bulk_create(
            Product(
                pk=listing.product_id,
                prediction_id=listing.prediction_id,
                seller=listing.shop.user,
                sku=f"{listing.shop.user.name[:2].upper()}-{listing.product_id.int % 1_000_000:06}",
                title=listing.product.title,
                description=listing.product.description,
                language=product_language(listing.product.title, listing.product.description),
                created_at=listing.at,
                **photo.as_fields(),
            )
            for listing, photo in zip(some, photos, strict=True)
        )
        ProductPhoto.objects.bulk_create(
            ProductPhoto(
                seller=listing.shop.user,
                product_id=listing.product_id,
                position=position,
                large=photo.large,
                small=photo.small,
                created_at=listing.at,
            )
            for listing, main, others in zip(some, photos, further, strict=True)
            for position, photo in enumerate([main, *others] if main else [])
        )


def classify_waiting(*, progress: Progress) -> None:
    """Let the live models answer everything that is queued, in this process."""
    while batch := Prediction.objects.claim(limit=BATCH):
        classify_claimed(batch)
        progress(len(batch))


def set_times_back(chance: random.Random, listings: Sequence[Listing]) -> None:
    """Move each result to the time of its listing, after a wait as an idle installation has it."""
    rows = Prediction.objects.only("pk", "milliseconds").in_bulk([listing.prediction_id for listing in listings])
    for listing in listings:
        row = rows[listing.prediction_id]
        wait = chance.lognormvariate(math.log(60), 0.35) + (row.milliseconds or 0)
        row.finished_at = listing.at + timedelta(milliseconds=wait)
    Prediction.objects.bulk_update(rows.values(), ["finished_at"], batch_size=ROWS_AT_ONCE)
    Product.objects.filter(pk__in=[listing.product_id for listing in listings]).update(updated_at=timezone.now())


def _store_photo(chance: random.Random, listing: Listing) -> Photo:
    if listing.product.photo is None:
        return Photo()
    photo = Photo.with_new_names()
    copies = clean_photo(SimpleUploadedFile("photo.jpg", _new_shot(chance, listing.product.photo)))
    if listing.is_damaged:
        default_storage.save(photo.large, ContentFile(copies.large))
        default_storage.save(photo.small, ContentFile(copies.small[: len(copies.small) // 3]))
    else:
        store_photo(photo, copies)
    return photo


def _store_further_photos(listing: Listing) -> list[Photo]:
    """Store other shots of some listings' photos; which, depends on the product alone, not on those before it."""
    chance = random.Random(listing.product_id.int)  # noqa: S311 - made-up products need no secrets
    if listing.product.photo is None or listing.is_damaged or chance.random() >= SEVERAL_PHOTOS_SHARE:
        return []
    photos = []
    for _number in range(chance.choice((1, 2))):
        photo = Photo.with_new_names()
        store_photo(photo, clean_photo(SimpleUploadedFile("photo.jpg", _new_shot(chance, listing.product.photo))))
        photos.append(photo)
    return photos


def _new_shot(chance: random.Random, path: Path) -> bytes:
    """Return another cut of a photo, so that no two shops have the very same picture."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    share = chance.uniform(0.8, 1.0)
    width, height = round(image.width * share), round(image.height * share)
    left, top = chance.randint(0, image.width - width), chance.randint(0, image.height - height)
    image = image.crop((left, top, left + width, top + height))
    if chance.random() < 0.5:
        image = ImageOps.mirror(image)
    image = ImageEnhance.Brightness(image).enhance(chance.uniform(0.85, 1.15))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
