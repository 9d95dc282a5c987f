"""Products have several photos in an order; the first one is what models read."""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.utils import timezone

from common.photos.decoder_pool import Copies
from portal.models import Product, ProductPhoto, User
from portal.products import services
from portal.products.photos import MOST_PHOTOS
from tests.support.accounts import make_user

Draft = Callable[[], ProductPhoto]


@pytest.fixture
def draft(seller: User) -> Draft:
    """Make a photo of the seller that belongs to no product."""
    return lambda: services.store_photo_draft(seller=seller, copies=Copies(b"large", b"small"))


def product_with(seller: User, photos: Sequence[ProductPhoto]) -> Product:
    return services.submit_product(seller=seller, title="Mug", photos=photos)


def row_of(seller: User, number: int = 0) -> ProductPhoto:
    """Make a photo without files, for tests of the order alone."""
    return ProductPhoto.objects.create(seller=seller, large=f"{number}-large.jpg", small=f"{number}-small.jpg")


def order_of(product: Product) -> list[ProductPhoto]:
    return list(ProductPhoto.objects.filter(product=product).order_by("position"))


def make_stale(*photos: ProductPhoto) -> None:
    ProductPhoto.objects.filter(pk__in=[photo.pk for photo in photos]).update(
        created_at=timezone.now() - timedelta(days=2)
    )


def test_a_product_has_its_photos_in_order_and_models_read_the_first(seller: User) -> None:
    photos = [row_of(seller, number) for number in range(3)]
    product = product_with(seller, photos)
    assert order_of(product) == photos
    assert product.photo_large == product.prediction.photo_large == "0-large.jpg"


def test_reordering_the_others_asks_no_model_again(seller: User) -> None:
    first, second, third = photos = [row_of(seller, number) for number in range(3)]
    product = product_with(seller, photos)
    changed = services.edit_product(product=product, photos=[first, third, second])
    assert order_of(product) == [first, third, second]
    assert changed.prediction == product.prediction


def test_another_main_photo_asks_the_models_again(seller: User) -> None:
    first, second = photos = [row_of(seller, number) for number in range(2)]
    product = product_with(seller, photos)
    changed = services.edit_product(product=product, photos=[second, first])
    assert changed.prediction != product.prediction
    assert changed.prediction.photo_large == changed.photo_large == "1-large.jpg"


def test_a_photo_that_another_tab_added_stays_behind_the_others(seller: User) -> None:
    first, second, added = (row_of(seller, number) for number in range(3))
    product = product_with(seller, [first, second])
    services.edit_product(product=product, photos=[added, first, second])
    services.edit_product(product=product, photos=[second], removed_photos=[first])
    assert order_of(product) == [second, added]


def test_removing_every_photo_needs_a_title(seller: User) -> None:
    photo = row_of(seller)
    product = services.submit_product(seller=seller, photos=[photo])
    with pytest.raises(ValidationError, match="Add a photo or a title"):
        services.edit_product(product=product, removed_photos=[photo])
    assert order_of(product) == [photo]


def test_a_product_has_at_most_ten_photos(seller: User) -> None:
    photos = [row_of(seller, number) for number in range(MOST_PHOTOS)]
    product = product_with(seller, photos)
    with pytest.raises(ValidationError, match=f"at most {MOST_PHOTOS} photos"):
        services.edit_product(product=product, photos=[row_of(seller, MOST_PHOTOS)])
    assert order_of(product) == photos


def test_a_photo_belongs_to_one_product(seller: User) -> None:
    photo = row_of(seller)
    first, second = product_with(seller, [photo]), product_with(seller, [])
    with pytest.raises(ProductPhoto.DoesNotExist):
        services.edit_product(product=second, photos=[photo])
    with pytest.raises(ProductPhoto.DoesNotExist):
        product_with(seller, [photo])
    assert order_of(first) == [photo]


def test_another_sellers_photo_can_not_be_taken(seller: User, other_seller: User) -> None:
    photo = row_of(other_seller)
    with pytest.raises(ProductPhoto.DoesNotExist):
        product_with(seller, [photo])


def test_a_removed_photo_can_be_taken_back_for_a_day(seller: User) -> None:
    first, second = photos = [row_of(seller, number) for number in range(2)]
    product = product_with(seller, photos)
    make_stale(*photos)  # they were uploaded long ago
    services.edit_product(product=product, removed_photos=[second])
    assert services.delete_stale_drafts() == 0
    services.edit_product(product=product, photos=[first, second])
    assert order_of(product) == [first, second]


def test_a_removed_photo_that_no_model_read_is_deleted_with_its_files(seller: User, draft: Draft) -> None:
    main, further = draft(), draft()
    product = product_with(seller, [main, further])
    services.edit_product(product=product, removed_photos=[further])
    make_stale(main, further)
    assert services.delete_stale_drafts() == 1
    assert not default_storage.exists(further.large) and not default_storage.exists(further.small)
    assert order_of(product) == [main] and default_storage.exists(main.large)


def test_a_stale_draft_that_a_product_takes_at_this_moment_is_not_deleted(committed_db: None) -> None:
    seller = make_user("racing@shop.example")
    draft = services.store_photo_draft(seller=seller, copies=Copies(b"large", b"small"))
    make_stale(draft)
    deleted: list[int] = []

    def sweep() -> None:
        deleted.append(services.delete_stale_drafts())
        connection.close()

    with transaction.atomic():
        product = product_with(seller, [draft])
        thread = threading.Thread(target=sweep)
        thread.start()
        thread.join()
    assert deleted == [0] and order_of(product) == [draft]
    assert default_storage.exists(draft.large) and default_storage.exists(draft.small)


def test_the_files_of_a_removed_main_photo_stay_as_long_as_its_prediction(seller: User, draft: Draft) -> None:
    main, further = draft(), draft()
    product = product_with(seller, [main, further])
    services.edit_product(product=product, removed_photos=[main])
    make_stale(main)
    assert services.delete_stale_drafts() == 1
    assert product.prediction.photo_large == main.large and default_storage.exists(main.large)


def test_a_deleted_products_photos_become_drafts(seller: User, draft: Draft) -> None:
    main, further = draft(), draft()
    product = product_with(seller, [main, further])
    product.delete()
    make_stale(main, further)
    assert services.delete_stale_drafts() == 2
    assert default_storage.exists(main.large) and not default_storage.exists(further.large)


def test_a_photo_from_before_photos_had_rows_is_kept_by_an_edit(seller: User) -> None:
    product = product_with(seller, [row_of(seller, 0)])
    ProductPhoto.objects.all().delete()  # as the version before left it
    added = row_of(seller, 1)
    services.edit_product(product=product, photos=[added])
    assert [photo.large for photo in order_of(product)] == ["1-large.jpg", "0-large.jpg"]


def test_processes_of_the_version_before_see_no_photo_of_a_product(seller: User) -> None:
    """They delete what they see after a day, with its files."""
    draft = row_of(seller, 1)
    product_with(seller, [row_of(seller, 0)])
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM portal_photodraft")
        assert cursor.fetchall() == [(draft.pk,)]
