"""The demo, filled small but completely: real models, a real training run, real monitoring and fraud detection."""

import io
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse

from classifier.models import Category, ModelVersion, Prediction, Variant
from feedback.models import Case, CategoryProposal, Feedback, MonitoringReport
from portal.demo.catalogue import KINDS, Catalogue
from portal.demo.listings import plan_listings, submit_listings
from portal.demo.shops import Shop, make_shops
from portal.models import Product, User

NOW = datetime(2026, 11, 20, 15, tzinfo=UTC)
PRODUCTS = 800  # fewer are not enough for the first week to be a baseline, and for a day to be compared with it


def page_of(email: str, address: str) -> str:
    client = Client()
    client.force_login(User.objects.get(email=email))
    response = client.get(address)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.slow  # a training run and two weeks of summaries
@pytest.mark.timeout(900)
def test_a_filled_demo_has_content_on_every_page_of_the_readme(
    committed_db: None, settings: Any, tmp_path: Path
) -> None:
    settings.AISLE_HOME = tmp_path
    call_command("fill_demo", products=PRODUCTS, stdout=io.StringIO())

    waiting = Product.objects.in_state(Product.State.NEEDS_ANSWER).filter(seller__email="seller@example.com")
    product = waiting.exclude(photo_large="")[0]
    best = product.prediction.best
    assert best and best["category"] in page_of("seller@example.com", product.get_absolute_url()).replace("&amp;", "&")

    assert not Product.objects.filter(prediction__feedback__isnull=False, answer=None).exists()

    queued = Feedback.objects.unreviewed().in_queue_order()[0]
    assert queued.prediction.title in page_of("scientist@example.com", reverse("review"))

    [breach, *_others] = MonitoringReport.objects.filter(breached=True, period="day")
    assert "language" in breach.figures["breaches"]
    assert str(breach.text_version) in page_of("scientist@example.com", reverse("model_health"))

    case = Case.objects.get()
    assert (case.seller.name, case.state, case.favourite) == ("Bargain Barn", "open", "beauty")
    assert "Bargain Barn" in page_of("scientist@example.com", reverse("admin:feedback_case_changelist"))

    live = Variant.objects.filter(version__modality="text")
    answers = {each: Prediction.objects.filter(text_version=each.version, feedback__isnull=False) for each in live}
    assert len(answers) == 2
    assert all(rows.exists() for rows in answers.values())
    experiment = page_of("scientist@example.com", reverse("experiments"))
    assert all(each.version.name in experiment for each in live)

    assert CategoryProposal.objects.exists()
    assert Prediction.objects.filter(state="queued").count() == 3
    times = Prediction.objects.filter(state="done").values_list("created_at", flat=True)
    assert (max(times) - min(times)).days >= 12

    counts = [model.objects.count() for model in (Product, Feedback, ModelVersion, User)]
    call_command("fill_demo", stdout=io.StringIO())
    assert [model.objects.count() for model in (Product, Feedback, ModelVersion, User)] == counts


def test_the_demo_is_not_filled_in_beside_real_products(
    seller: User, make_product: Callable[..., Product], settings: Any, tmp_path: Path
) -> None:
    settings.AISLE_HOME = tmp_path
    make_product(seller, answered=False)
    with pytest.raises(CommandError, match="Products are listed here already"):
        call_command("fill_demo", stdout=io.StringIO())
    assert User.objects.count() == 1


def test_the_demo_refuses_a_production_installation(settings: Any) -> None:
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="needs one of its own"):
        call_command("fill_demo", stdout=io.StringIO())


@pytest.fixture
def shops(db: None, settings: Any, tmp_path: Path) -> list[Shop]:
    settings.AISLE_HOME = tmp_path
    return make_shops(NOW)


def test_the_same_seed_plans_the_same_listings(shops: list[Shop]) -> None:
    first, second = (plan_listings(random.Random(5), Catalogue(), shops, products=300, now=NOW) for _number in range(2))
    assert first == second
    assert len({listing.product_id for listing in first}) == len(first) > 250


def test_the_hour_of_filling_changes_nothing_in_the_days_before(shops: list[Shop]) -> None:
    early, late = (
        plan_listings(random.Random(5), Catalogue(), shops, products=300, now=NOW.replace(hour=hour))
        for hour in (1, 22)
    )
    assert late[: len(early)] == early
    assert len(late) > len(early)


def test_some_listed_products_have_several_photos(shops: list[Shop]) -> None:
    listings = plan_listings(random.Random(5), Catalogue(), shops, products=300, now=NOW)
    with_photo = [listing for listing in listings if listing.product.photo][:20]
    submit_listings(random.Random(5), with_photo, progress=lambda count: None)
    counts = {product.photos.count() for product in Product.objects.all()}
    assert counts == {1, 2, 3}
    for product in Product.objects.all():
        assert product.photos.get(position=0).large == product.photo_large == product.prediction.photo_large


def test_german_shops_open_in_the_last_days_only(shops: list[Shop]) -> None:
    listings = plan_listings(random.Random(5), Catalogue(), shops, products=300, now=NOW)
    german = [listing for listing in listings if listing.shop.kind == "german"]
    assert german
    assert min(listing.at for listing in german) >= NOW.replace(hour=0, day=18)


def test_every_kind_names_a_category_and_a_photo_that_exist(db: None) -> None:
    catalogue = Catalogue()
    known = set(Category.objects.values_list("slug", flat=True))
    chance = random.Random(1)
    assert {product.category for product in catalogue.labelled(chance, 200)} == known
    for _number in range(200):
        photo = catalogue.draw_with_photo(chance).photo
        assert photo and photo.is_file()
        assert catalogue.draw_german(chance).category in known
        assert not catalogue.draw_without_category(chance).category
    assert KINDS.read_text(encoding="utf-8").isascii() is False  # umlauts are there as themselves
