"""An edit keeps the seller's answer, and the page asks whether it is still right."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from classifier.models import Category, Prediction
from classifier.tasks import classify_pending
from feedback.models import Feedback
from portal.models import Product, User
from portal.products import services
from tests.support.accounts import make_user

MakeProduct = Callable[..., Product]
State = Product.State
TITLE = "Yamaha acoustic guitar with case"


@pytest.fixture(autouse=True)
def no_waiting(settings: Any) -> None:
    """No worker runs here: pages answer at once with the waiting state."""
    settings.RESULT_WAIT_SECONDS = 0


@pytest.fixture
def guitar(seller: User, make_product: MakeProduct) -> Product:
    """A product whose seller chose the category that is suggested first."""
    return answered(make_product(seller, title=TITLE), "musical-instruments")


def answered(product: Product, slug: str | None, wish: str = "") -> Product:
    category = Category.objects.get(slug=slug) if slug else None
    services.record_answer(prediction=product.prediction, category=category, wish=wish)
    return fresh(product)


def fresh(product: Product) -> Product:
    return Product.objects.select_related("answer", "category", "prediction").get(pk=product.pk)


def edited(product: Product, title: str) -> Product:
    services.edit_product(product=product, title=title)
    classify_pending()
    return fresh(product)


def test_the_category_stays_while_the_new_suggestions_are_awaited(browser: Client, guitar: Product) -> None:
    browser.post(reverse("product_edit", args=[guitar.pk]), {"title": "yamaha acoustic guitar with case"})
    changed = fresh(guitar)
    assert (changed.state, changed.category, changed.answer_is_older) == (State.WAITING, guitar.category, True)
    assert "You chose <strong" in browser.get(changed.get_absolute_url()).content.decode()
    assert "Musical Instruments" in browser.get(reverse("products")).content.decode().split("cell-category")[1]


def test_a_failed_prediction_after_an_edit_keeps_the_category(browser: Client, guitar: Product) -> None:
    changed = services.edit_product(product=guitar, title="Guitar")
    Prediction.objects.filter(pk=changed.prediction_id).update(state="failed", error="The reason in words.")
    page = browser.get(guitar.get_absolute_url()).content.decode()
    assert (fresh(guitar).state, fresh(guitar).category) == (State.FAILED, guitar.category)
    assert "It stays until you choose another category." in page and "The reason in words." in page


def test_the_page_asks_whether_the_kept_category_is_still_right(browser: Client, guitar: Product) -> None:
    changed = edited(guitar, "Red lipstick, matte")
    page = browser.get(guitar.get_absolute_url()).content.decode()
    best = changed.prediction.top5[0]["category"].replace("&", "&amp;")
    assert changed.state == State.CATEGORISED
    assert "Still right?" in page and "Yes, keep Musical Instruments" in page
    assert best != "Musical Instruments" and page.index("Yes, keep Musical") < page.index(f">{best}</strong>")


def test_the_page_says_that_the_new_suggestion_is_the_kept_category(browser: Client, guitar: Product) -> None:
    edited(guitar, TITLE.lower())
    page = browser.get(guitar.get_absolute_url()).content.decode()
    assert "Our suggestion for the changed product is the same." in page and "verdict-very" not in page


def test_keeping_the_category_answers_the_new_prediction(browser: Client, guitar: Product) -> None:
    changed = edited(guitar, "Red lipstick, matte")
    browser.post(reverse("product_answer", args=[guitar.pk]), {"category": "musical-instruments"})
    kept = fresh(guitar)
    assert (kept.category, kept.answer_is_older) == (guitar.category, False)
    assert kept.answer == Feedback.objects.get(prediction=changed.prediction) and Feedback.objects.count() == 2
    assert "Still right?" not in browser.get(guitar.get_absolute_url()).content.decode()


def test_another_answer_changes_the_category(browser: Client, guitar: Product) -> None:
    edited(guitar, "Red lipstick, matte")
    browser.post(reverse("product_answer", args=[guitar.pk]), {"category": "beauty"})
    changed = fresh(guitar)
    assert changed.category and (changed.category.slug, changed.answer_is_older) == ("beauty", False)


def test_an_answer_that_no_category_fits_stays_with_its_words(
    browser: Client, seller: User, make_product: MakeProduct
) -> None:
    product = answered(make_product(seller), None, "Second-hand books")
    changed = edited(product, "Old guitar")
    page = browser.get(product.get_absolute_url()).content.decode()
    assert changed.state == State.NO_CATEGORY and "Yes, still none of these" in page
    assert "Second-hand books" in browser.get(reverse("products")).content.decode()
    browser.post(reverse("product_answer", args=[product.pk]), {"category": "", "wish": "Second-hand books"})
    assert Feedback.objects.get(prediction=changed.prediction).wish == "Second-hand books"


def test_a_kept_category_that_is_no_longer_offered_is_not_asked_for(browser: Client, guitar: Product) -> None:
    edited(guitar, "Red lipstick, matte")
    Category.objects.filter(slug="musical-instruments").update(is_active=False)
    Prediction.objects.update(top5=[{"category": "Beauty", "slug": "beauty", "probability": 1.0}])
    page = browser.get(guitar.get_absolute_url()).content.decode()
    assert "This category is no longer offered." in page and "Yes, keep" not in page
    assert fresh(guitar).category == guitar.category


def test_a_kept_answer_counts_as_no_answer_to_the_new_prediction(api: APIClient, guitar: Product) -> None:
    changed = edited(guitar, "Red lipstick, matte")
    assert Feedback.objects.get().prediction == guitar.prediction
    assert api.get(f"/api/v1/predictions/{changed.prediction_id}").json()["feedback"] is None
    listed = api.get(f"/api/v1/products/{guitar.pk}").json()
    assert (listed["category"], listed["answer_is_older"]) == ("musical-instruments", True)


def test_changing_the_kept_answer_itself_changes_the_product(api: APIClient, guitar: Product) -> None:
    edited(guitar, "Red lipstick, matte")
    api.post(f"/api/v1/predictions/{guitar.prediction_id}/feedback", {"category": "beauty"}, format="json")
    changed = fresh(guitar)
    assert changed.category and (changed.category.slug, changed.answer_is_older) == ("beauty", True)


def test_an_answer_to_an_earlier_prediction_leaves_a_newer_answer_alone(api: APIClient, guitar: Product) -> None:
    changed = answered(edited(guitar, "Red lipstick, matte"), "beauty")
    api.post(f"/api/v1/predictions/{guitar.prediction_id}/feedback", {"category": "appliances"}, format="json")
    assert (fresh(guitar).category, fresh(guitar).answer) == (changed.category, changed.answer)


def test_saving_the_same_text_again_queues_nothing(browser: Client, guitar: Product) -> None:
    browser.post(reverse("product_edit", args=[guitar.pk]), {"title": f" {TITLE} ", "sku": "G-1"})
    assert (fresh(guitar).prediction, fresh(guitar).answer_is_older) == (guitar.prediction, False)


def test_an_edit_and_an_answer_at_once_are_both_kept(committed_db: None) -> None:
    product = services.submit_product(seller=make_user("both@shop.example"), title=TITLE)
    classify_pending()
    barrier = threading.Barrier(2)

    def meet(call: Callable[[], object]) -> None:
        barrier.wait()
        call()
        connection.close()

    calls: list[Callable[[], object]] = [
        lambda: services.edit_product(product=product, sku="G-1"),
        lambda: answered(fresh(product), "beauty"),
    ]
    threads = [threading.Thread(target=meet, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = fresh(product)
    assert (after.sku, after.state) == ("G-1", State.CATEGORISED)


def test_the_migration_gives_products_the_answers_to_their_newest_predictions(guitar: Product) -> None:
    from importlib import import_module

    fill = import_module("portal.migrations.0009_kept_answer").FILL_ANSWERS
    Product.objects.update(answer=None)
    with connection.cursor() as cursor:
        cursor.execute(fill)
    assert fresh(guitar).answer == guitar.answer
