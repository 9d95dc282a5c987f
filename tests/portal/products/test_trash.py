"""Deleted products wait in the trash, where their seller restores them or deletes them permanently."""

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from classifier.models import Category, Prediction
from classifier.tasks import classify_pending
from feedback.models import Feedback
from portal.models import Product, User
from portal.products import services

MakeProduct = Callable[..., Product]


@pytest.fixture(autouse=True)
def no_waiting(settings: Any) -> None:
    """No worker runs here: pages answer at once with the waiting state."""
    settings.RESULT_WAIT_SECONDS = 0


@pytest.fixture
def mug(seller: User, make_product: MakeProduct) -> Product:
    return make_product(seller, title="Mug <b>&", photo=True, answered=False)


@pytest.fixture
def trashed(mug: Product) -> Product:
    services.trash_products(products=Product.objects.filter(pk=mug.pk))
    return Product.objects.get(pk=mug.pk)


def text_of(response: Any) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split()))


def delete(browser: Client, *products: Product) -> str:
    """Delete products on the list and return the words of the page that follows."""
    ids = [str(product.pk) for product in products]
    return browser.post(reverse("products_delete"), {"ids": ids}, follow=True).content.decode()


def undo(browser: Client, page: str) -> Any:
    """Press the undo button of a page's message."""
    found = re.search(r'name="deleted_at" value="([^"]+)"', page)
    assert found, "there is no undo button"
    return browser.post(reverse("products_restore"), {"deleted_at": html.unescape(found[1])}, follow=True)


def is_listed(product: Product) -> bool:
    return Product.objects.for_seller(product.seller).filter(pk=product.pk).exists()


def test_a_deleted_product_moves_to_the_trash_and_is_undone_from_the_message(browser: Client, mug: Product) -> None:
    page = browser.post(reverse("product_delete", args=[mug.pk]), follow=True)
    assert "Deleted “Mug <b>&”." in text_of(page) and "<b>&" not in page.content.decode()
    assert not is_listed(mug)
    assert "Restored" in text_of(undo(browser, page.content.decode())) and is_listed(mug)


def test_an_opened_delete_address_deletes_nothing(browser: Client, mug: Product) -> None:
    assert browser.get(reverse("product_delete", args=[mug.pk])).status_code == 405
    assert is_listed(mug)


def test_chosen_products_are_deleted_together_and_undone_together(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    first, second, third, earlier = (make_product(seller, title=f"Mug {n}", answered=False) for n in range(4))
    delete(browser, earlier)
    page = delete(browser, first, second)
    assert "Deleted 2 products." in page and "2 products" in page and "3 deleted" in page
    undo(browser, page)
    assert [is_listed(product) for product in (first, second, third, earlier)] == [True, True, True, False]


def test_only_ones_own_products_are_deleted_and_nonsense_is_passed_over(
    browser: Client, other_seller: User, mug: Product, make_product: MakeProduct
) -> None:
    theirs = make_product(other_seller, answered=False)
    browser.post(reverse("products_delete"), {"ids": [str(mug.pk), str(theirs.pk), "nonsense"]})
    assert (is_listed(mug), is_listed(theirs)) == (False, True)
    assert "Choose at least one product" in browser.post(reverse("products_delete"), follow=True).content.decode()


def test_deleting_returns_to_the_page_of_the_list_that_was_left(browser: Client, mug: Product) -> None:
    answer = browser.post(reverse("product_delete", args=[mug.pk]) + "?list=state%3Dwaiting%26page%3D2")
    assert answer["Location"] == reverse("products") + "?state=waiting&page=2"


def test_a_product_in_the_trash_is_nowhere_but_in_the_trash(browser: Client, api: APIClient, trashed: Product) -> None:
    for name in ("product", "product_result", "product_edit"):
        assert browser.get(reverse(name, args=[trashed.pk])).status_code == 404
    for name in ("product_answer", "product_retry", "product_edit", "product_delete"):
        assert browser.post(reverse(name, args=[trashed.pk]), {"category": "beauty"}).status_code == 404
    assert browser.get(reverse("product_photo", args=[trashed.pk, "small"])).status_code == 404
    assert browser.get(trashed.photos.get().small_url).status_code == 404
    assert trashed.title not in browser.get(reverse("products"), {"q": "mug"}).content.decode()
    assert api.get("/api/v1/products").json()["results"] == []
    page = browser.get(reverse("trash")).content.decode()
    assert html.escape(trashed.title) in page and "30 days left" in page
    photo = browser.get(reverse("trashed_photo", args=[trashed.pk]))
    assert photo.status_code == 200 and reverse("trashed_photo", args=[trashed.pk]) in page


def test_the_photo_of_a_listed_product_is_not_in_the_trash(browser: Client, mug: Product) -> None:
    assert browser.get(reverse("trashed_photo", args=[mug.pk])).status_code == 404


def test_the_page_of_a_deleted_product_offers_to_restore_it(browser: Client, trashed: Product) -> None:
    page = browser.post(reverse("product_edit", args=[trashed.pk]), {"title": "Cup"})
    assert page.status_code == 404 and "You deleted this product" in text_of(page)
    opened = browser.post(reverse("products_restore"), {"only": str(trashed.pk), "open": "1"})
    assert opened["Location"] == trashed.get_absolute_url() and is_listed(trashed)


def test_the_page_of_another_sellers_deleted_product_says_nothing(
    client: Client, other_seller: User, trashed: Product
) -> None:
    client.force_login(other_seller)
    page = client.get(trashed.get_absolute_url())
    assert page.status_code == 404 and "You deleted" not in text_of(page)
    client.post(reverse("products_restore"), {"only": str(trashed.pk)})
    client.post(reverse("trash_delete"), {"ids": str(trashed.pk), "confirmed": "1"})
    assert not is_listed(trashed) and Product.objects.filter(pk=trashed.pk).exists()


def test_a_product_that_another_tab_deletes_meanwhile_is_not_edited(
    browser: Client, mug: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = services.edit_product

    def other_tab_first(**values: Any) -> Product:
        services.trash_products(products=Product.objects.filter(pk=mug.pk))
        return edit(**values)

    monkeypatch.setattr(services, "edit_product", other_tab_first)
    page = browser.post(reverse("product_edit", args=[mug.pk]), {"title": "Cup"})
    assert page.status_code == 404 and "You deleted this product" in text_of(page)
    assert Product.objects.get(pk=mug.pk).title == mug.title


def test_the_button_of_a_row_restores_that_product_only(
    browser: Client, trashed: Product, seller: User, make_product: MakeProduct
) -> None:
    other = make_product(seller, answered=False)
    delete(browser, other)
    page = browser.post(
        reverse("products_restore"), {"only": str(trashed.pk), "ids": [str(trashed.pk), str(other.pk)]}, follow=True
    )
    assert (is_listed(trashed), is_listed(other)) == (True, False)
    assert page.redirect_chain[0][0] == reverse("trash")


def test_a_second_delete_and_a_second_restore_change_nothing(browser: Client, trashed: Product) -> None:
    assert services.trash_products(products=Product.objects.filter(pk=trashed.pk)) == 0
    assert Product.objects.get(pk=trashed.pk).deleted_at == trashed.deleted_at
    assert services.restore_products(products=Product.objects.filter(pk=trashed.pk)) == 1
    page = browser.post(reverse("products_restore"), {"ids": str(trashed.pk)}, follow=True)
    assert "nothing to restore" in text_of(page) and is_listed(trashed)


def test_a_restored_product_has_its_answer_and_its_photo(browser: Client, seller: User, mug: Product) -> None:
    classify_pending()
    prediction = Prediction.objects.get(pk=mug.prediction_id)
    services.record_answer(prediction=prediction, category=Category.objects.get(slug="beauty"))
    undo(browser, delete(browser, mug))
    restored = Product.objects.get(pk=mug.pk)
    assert (restored.state, restored.answer) == (Product.State.CATEGORISED, Feedback.objects.get())
    assert browser.get(restored.small_photo_url).status_code == 200


def test_a_product_that_is_deleted_while_it_waits_has_its_result_when_restored(browser: Client, mug: Product) -> None:
    page = delete(browser, mug)
    classify_pending()
    undo(browser, page)
    assert Product.objects.get(pk=mug.pk).state == Product.State.NEEDS_ANSWER


def test_deleting_permanently_asks_first_and_keeps_the_history(browser: Client, trashed: Product) -> None:
    page = browser.post(reverse("trash_delete"), {"ids": str(trashed.pk)})
    assert "Delete this product permanently?" in text_of(page) and Product.objects.filter(pk=trashed.pk).exists()
    browser.post(reverse("trash_delete"), {"ids": str(trashed.pk), "confirmed": "1"})
    assert not Product.objects.exists() and Prediction.objects.filter(pk=trashed.prediction_id).exists()


def test_all_are_deleted_that_were_in_the_trash_when_the_page_was_shown(
    browser: Client, seller: User, trashed: Product, make_product: MakeProduct
) -> None:
    page = browser.get(reverse("trash")).content.decode()
    until = html.unescape(re.search(r'name="until" value="([^"]+)"', page)[1])  # type: ignore[index]
    later = make_product(seller, answered=False)
    delete(browser, later)
    question = browser.post(reverse("trash_delete"), {"until": until})
    assert "Delete this product permanently?" in text_of(question)
    browser.post(reverse("trash_delete"), {"until": until, "confirmed": "1"})
    assert list(Product.objects.all()) == [later]


def test_a_listed_product_is_never_deleted_permanently(browser: Client, mug: Product, trashed: Product) -> None:
    services.restore_products(products=Product.objects.filter(pk=mug.pk))
    assert services.delete_trashed_products(products=Product.objects.filter(pk=mug.pk)) == 0
    browser.post(reverse("trash_delete"), {"ids": str(mug.pk), "confirmed": "1"})
    assert is_listed(mug)


@pytest.mark.parametrize("value", ["nonsense", "2026-11-29", "2026-11-29T10:00:00", "9" * 99])
def test_a_moment_that_is_none_restores_and_deletes_nothing(browser: Client, trashed: Product, value: str) -> None:
    browser.post(reverse("products_restore"), {"deleted_at": value})
    browser.post(reverse("trash_delete"), {"until": value, "confirmed": "1"})
    assert Product.objects.trash_of(trashed.seller).count() == 1


def test_an_empty_trash_says_so(browser: Client) -> None:
    assert "Nothing here" in text_of(browser.get(reverse("trash")))


def test_the_page_names_the_days_that_are_left(browser: Client, trashed: Product, settings: Any) -> None:
    Product.objects.update(deleted_at=timezone.now() - timedelta(days=29, hours=1))
    assert "1 day left" in text_of(browser.get(reverse("trash")))
    settings.TRASH_DAYS = 0
    page = text_of(browser.get(reverse("trash")))
    assert "left" not in page and "until you delete it permanently" in page
