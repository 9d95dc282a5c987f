"""The storage holds the photos that are shown or belong to the history, and no others, whatever sellers do."""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from classifier.models import Prediction
from common.photos.decoder_pool import Copies
from portal.models import Product, ProductPhoto, User
from portal.privacy import retention
from portal.products import services

pytestmark = pytest.mark.django_db
OLD = timedelta(days=40)


def store(seller: User) -> ProductPhoto:
    return services.store_photo_draft(seller=seller, copies=Copies(b"large", b"small"))


def stored_files() -> set[str]:
    folder = Path(default_storage.location)  # type: ignore[attr-defined]
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}


def shown_files() -> set[str]:
    """Return the files that a page can ask for: of products' photos, of drafts, and of predictions."""
    rows = [
        *ProductPhoto.objects.values_list("large", "small"),
        *Product.objects.values_list("photo_large", "photo_small"),
        *Prediction.objects.values_list("photo_large", "photo_small"),
    ]
    return {name for names in rows for name in names if name}


def make_old() -> None:
    then = timezone.now() - OLD
    ProductPhoto.objects.update(created_at=then)
    Product.objects.trashed().update(deleted_at=then)
    Prediction.objects.update(created_at=then, state=Prediction.State.FAILED)


def change_at_random(chance: random.Random, seller: User) -> None:
    """Do what a seller may do with a product's photos, once."""
    trash = Product.objects.trash_of(seller)
    if trash and chance.random() < 0.4:
        chance.choice([services.restore_products, services.delete_trashed_products])(products=trash.all())
        return
    products = list(Product.objects.for_seller(seller))
    drafts = [store(seller) for _ in range(chance.randrange(3))]
    if not products or chance.random() < 0.2:
        services.submit_product(seller=seller, title="Mug", photos=drafts)
        return
    product = chance.choice(products)
    if chance.random() < 0.15:
        services.trash_products(products=Product.objects.filter(pk=product.pk))
        return
    photos = [*product.photos.all(), *drafts]
    chance.shuffle(photos)
    removed = [photo for photo in photos if chance.random() < 0.3]
    services.edit_product(
        product=product, photos=[photo for photo in photos if photo not in removed], removed_photos=removed
    )


@pytest.mark.parametrize("seed", range(3))
def test_no_file_is_orphaned_and_none_that_is_shown_is_deleted(seller: User, settings: Any, seed: int) -> None:
    settings.DELETED_DAYS = 30
    chance = random.Random(seed)
    for _number in range(25):
        change_at_random(chance, seller)
        if chance.random() < 0.3:
            make_old()
        if chance.random() < 0.3:
            chance.choice([services.delete_stale_drafts, retention.delete_expired])()
        assert stored_files() == shown_files()
    make_old()
    services.delete_stale_drafts()
    retention.delete_expired()
    services.delete_stale_drafts()
    in_use = set(ProductPhoto.objects.exclude(product=None).values_list("large", flat=True))
    assert {name for name in stored_files() if "-large" in name} == in_use


def test_a_photo_that_is_no_longer_the_main_one_outlives_its_prediction(seller: User, settings: Any) -> None:
    settings.DELETED_DAYS = 30
    main, further = (store(seller) for _ in range(2))
    product = services.submit_product(seller=seller, title="Mug", photos=[main, further])
    services.edit_product(product=product, photos=[further, main])
    make_old()
    assert retention.delete_expired()["predictions"] == 1
    assert default_storage.exists(main.large) and default_storage.exists(main.small)


@pytest.mark.parametrize("tasks", ["drafts first", "retention first"])
def test_a_removed_main_photo_goes_with_its_prediction(seller: User, settings: Any, tasks: str) -> None:
    settings.DELETED_DAYS = 30
    photo = store(seller)
    product = services.submit_product(seller=seller, title="Mug", photos=[photo])
    services.edit_product(product=product, removed_photos=[photo])
    make_old()
    order = [services.delete_stale_drafts, retention.delete_expired]
    for task in order if tasks == "drafts first" else reversed(order):
        task()
    assert not default_storage.exists(photo.large) and not ProductPhoto.objects.exists()
