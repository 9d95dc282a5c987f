"""When more waits than can be answered in time, the API says when to come back and the page how long it takes."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from classifier.models import Prediction
from classifier.serving import queue_metrics
from portal.models import Product, User

ADDRESS = "/api/v1/predictions"


@pytest.fixture
def busy() -> Callable[..., None]:
    """Say how many wait, at ten per second."""

    def say(*, interactive: int = 0, bulk: int = 0) -> None:
        queue_metrics.cache_load(
            queue_metrics.Load(queue_metrics.Lane(interactive, 5, 5), queue_metrics.Lane(bulk, 5, 5), 10.0), 60
        )

    return say


@pytest.fixture(autouse=True)
def ten_minutes(settings: object) -> None:
    settings.MAX_QUEUE_SECONDS = 600  # type: ignore[attr-defined]


def test_bulk_is_refused_with_retry_after_when_the_queue_is_too_long(api: APIClient, busy: Callable[..., None]) -> None:
    busy(bulk=6500)
    response = api.post(ADDRESS, {"title": "Mug", "bulk": "true"}, format="multipart")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "50"
    assert response.json()["type"] == "server_error"
    assert response.json()["errors"][0]["code"] == "queue_full"
    assert not Product.objects.exists()


def test_interactive_keeps_its_share_of_a_queue_full_of_bulk(api: APIClient, busy: Callable[..., None]) -> None:
    busy(bulk=100_000)
    assert api.post(ADDRESS, {"title": "Mug"}, format="multipart").status_code == 202
    busy(interactive=6100)
    response = api.post(ADDRESS, {"title": "Mug"}, format="multipart")
    assert response.status_code == 503 and response.headers["Retry-After"] == "10"


def test_bulk_uploads_give_way_to_interactive_ones(api: APIClient) -> None:
    for bulk in ("true", "false", None):
        data = {"title": "Mug"} if bulk is None else {"title": "Mug", "bulk": bulk}
        assert api.post(ADDRESS, data, format="multipart").status_code == 202
    priorities = list(Prediction.objects.order_by("created_at").values_list("priority", flat=True))
    assert priorities == [Prediction.Priority.BULK, Prediction.Priority.INTERACTIVE, Prediction.Priority.INTERACTIVE]


def test_the_page_takes_the_product_and_says_how_long_it_will_take(
    browser: Client, seller: User, make_product: Callable[..., Product], busy: Callable[..., None]
) -> None:
    product = make_product(seller, answered=False)
    page = reverse("product", args=[product.pk])
    assert "about" not in browser.get(page).content.decode()
    busy(interactive=1250)
    assert "this will take about 3 minutes" in browser.get(page).content.decode()
    assert browser.post(reverse("product_new"), {"title": "Mug"}).status_code == 302


def test_readiness_reports_the_queue_and_does_not_depend_on_its_length(client: Client, seller: User) -> None:
    Prediction.objects.create(seller=seller, title="Mug", priority=Prediction.Priority.BULK)
    answer = client.get(reverse("ready"))
    assert answer.status_code == 200
    said = answer.json()
    assert said["database"] and said["cache"]
    assert said["queue"]["waiting"] == said["queue"]["bulk"] == 1
    assert said["queue"]["oldest_seconds"] >= 0 and said["queue"]["interactive"] == 0
