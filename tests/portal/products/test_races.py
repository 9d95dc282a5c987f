"""Two tabs, two clicks, two people: what was there a moment ago is gone, and the page says so."""

from collections.abc import Callable

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from classifier.models import Category, Prediction
from classifier.serving import notifications
from feedback.models import Feedback
from portal.models import Product, ProductPhoto, User
from portal.products import services
from portal.products.services import create_photo_draft
from tests.support.accounts import PASSWORD
from tests.support.photos import photo_upload

MakeProduct = Callable[..., Product]


def test_a_photo_that_another_tab_took_is_asked_for_again(
    browser: Client, seller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = create_photo_draft(seller=seller, upload=photo_upload())
    submit = services.submit_product

    def other_tab_first(**values: object) -> Product:
        submit(seller=seller, title="The other tab's mug", photos=[draft])
        return submit(**values)  # type: ignore[arg-type]

    monkeypatch.setattr(services, "submit_product", other_tab_first)
    response = browser.post(reverse("product_new"), {"title": "My mug", "photos": str(draft.pk)})
    assert response.status_code == 422
    assert "no longer here" in response.content.decode() and "My mug" in response.content.decode()
    assert not Product.objects.filter(title="My mug").exists()


@pytest.mark.parametrize("page", ["product_edit", "product_retry"])
def test_a_product_that_another_tab_deleted_is_not_found(
    browser: Client, seller: User, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    product = make_product(seller, answered=False)
    monkeypatch.setattr("portal.products.views._throttled", lambda request: Product.objects.all().delete() and None)
    assert browser.post(reverse(page, args=[product.pk]), {"title": "Mug"}).status_code == 404


def test_two_edits_at_once_cannot_leave_a_product_with_nothing(
    browser: Client, seller: User, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(seller, photo=True, answered=False)
    edit = services.edit_product

    def other_tab_first(**values: object) -> Product:
        edit(product=product, title="Mug", removed_photos=list(product.photos.all()))
        ProductPhoto.objects.all().delete()  # as a day later
        return edit(**values)  # type: ignore[arg-type]

    monkeypatch.setattr(services, "edit_product", other_tab_first)
    response = browser.post(reverse("product_edit", args=[product.pk]), {"title": "", "description": "Words"})
    assert response.status_code == 422
    assert "no longer here" in response.content.decode()
    assert Product.objects.get().title == "Mug"


def test_an_answer_without_a_category_is_no_answer(browser: Client, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller)
    browser.post(reverse("product_answer", args=[product.pk]), {"wish": "Books"})
    assert not Feedback.objects.exists()


def test_a_suggested_category_can_be_chosen_after_it_was_switched_off(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller)
    Category.objects.update(is_active=False)
    slug = product.prediction.top5[0]["slug"]
    browser.post(reverse("product_answer", args=[product.pk]), {"category": slug})
    assert Feedback.objects.get().category.slug == slug  # type: ignore[union-attr]


def test_a_new_photo_has_a_new_address(browser: Client, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller, photo=True, answered=False)
    before = product.small_photo_url
    values = {"title": product.title, "photo": photo_upload(), "remove_photos": product.photos.get().pk}
    browser.post(reverse("product_edit", args=[product.pk]), values)
    after = Product.objects.get(pk=product.pk).small_photo_url
    assert before != after
    assert browser.get(after).status_code == 200


def test_when_many_wait_the_next_one_is_answered_at_once(
    seller: User, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, done = make_product(seller, answered=False), make_product(seller)
    Prediction.objects.filter(pk=waiting.prediction_id).update(state="queued")
    taken = 0
    while notifications.WAITERS.acquire(blocking=False):
        taken += 1
    try:
        assert not notifications.wait_until_finished(waiting.prediction_id, seconds=60)
        assert notifications.wait_until_finished(done.prediction_id, seconds=60)
    finally:
        for _place in range(taken):
            notifications.WAITERS.release()


def test_an_address_is_always_stored_in_lower_case(client: Client, db: None) -> None:
    user = get_user_model()(email="Jane@Shop.example")
    user.set_password(PASSWORD)
    user.save()
    assert user.email == "jane@shop.example"


def test_a_person_and_all_that_is_theirs_can_be_deleted(seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller)
    services.record_answer(prediction=product.prediction, category=Category.objects.first())
    seller.delete()
    assert not Product.objects.exists() and not Prediction.objects.exists() and not Feedback.objects.exists()


def test_the_api_too_takes_a_suggested_category_that_was_switched_off(
    api: APIClient, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller)
    Category.objects.update(is_active=False)
    address = f"/api/v1/predictions/{product.prediction_id}/feedback"
    suggested = [row["slug"] for row in product.prediction.top5]
    other = Category.objects.exclude(slug__in=suggested)[0].slug
    assert api.post(address, {"category": suggested[0]}, format="json").status_code == 200
    assert api.post(address, {"category": other}, format="json").status_code == 400
