"""Products are fetched, changed and deleted as on their pages."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection
from rest_framework.test import APIClient

from classifier.models import Category, Prediction
from classifier.tasks import classify_pending
from portal.api.throttles import UploadThrottle
from portal.models import Product, User
from portal.products import services
from tests.support.accounts import make_user
from tests.support.api import api_client, problem
from tests.support.photos import photo_upload

MakeProduct = Callable[..., Product]


def address_of(product: Product) -> str:
    return f"/api/v1/products/{product.pk}"


def test_a_product_is_fetched_as_the_list_shows_it(api: APIClient, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller, answered=False)
    (listed,) = api.get("/api/v1/products").json()["results"]
    assert api.get(address_of(product)).json() == listed | {"duplicates": []}


def test_a_changed_title_gets_other_suggestions(api: APIClient, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller, photo=True)
    services.record_answer(prediction=product.prediction, category=Category.objects.get(slug="musical-instruments"))
    changed = api.patch(address_of(product), {"title": "Red kettle"}, format="json").json()
    assert (changed["title"], changed["state"], changed["top5"]) == ("Red kettle", "waiting", None)
    assert (changed["category"], changed["answer_is_older"]) == ("musical-instruments", True)
    assert changed["prediction"] != str(product.prediction_id)
    assert Prediction.objects.get(pk=changed["prediction"]).photo_small == product.photo_small


def test_a_changed_sku_keeps_prediction_and_answer(api: APIClient, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller)
    services.record_answer(prediction=product.prediction, category=Category.objects.get(slug="musical-instruments"))
    changed = api.patch(address_of(product), {"sku": "G-2"}, format="json").json()
    assert (changed["sku"], changed["title"], changed["state"]) == ("G-2", product.title, "categorised")
    assert (changed["prediction"], changed["category"]) == (str(product.prediction_id), "musical-instruments")


def test_a_photo_is_replaced_and_removed(api: APIClient, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller, photo=True, answered=False)
    assert api.patch(address_of(product), {"image": photo_upload()}, format="multipart").status_code == 200
    replaced = Product.objects.get().photo_small
    assert api.patch(address_of(product), {"remove_image": True}, format="json").status_code == 200
    assert replaced not in ("", product.photo_small) and Product.objects.get().photo_small == ""


@pytest.mark.parametrize(
    ("changes", "encoding", "code", "attr"),
    [
        ({"titel": "Mug"}, "json", "unknown_field", "titel"),
        ({"category": "beauty"}, "json", "unknown_field", "category"),
        ({"title": 7, "id": "x"}, "json", "unknown_field", "id"),
        ({"title": None}, "json", "null", "title"),
        ({"sku": 12}, "json", "invalid", "sku"),
        ({"title": "x" * 400}, "json", "max_length", "title"),
        ({"title": " "}, "json", "nothing_given", "non_field_errors"),
        ({"image": "https://shop.example/mug.jpg"}, "json", "invalid", "image"),
        ({"photo": photo_upload()}, "multipart", "unknown_field", "photo"),
        ({"image": photo_upload(), "remove_image": "true"}, "multipart", "remove_and_replace", "remove_image"),
        ({"image": photo_upload(b"GIF89a")}, "multipart", "unsupported_photo", None),
    ],
)
def test_a_change_with_a_fault_is_rejected_and_the_fault_named(
    api: APIClient,
    seller: User,
    make_product: MakeProduct,
    changes: dict[str, object],
    encoding: str,
    code: str,
    attr: str | None,
) -> None:
    product = make_product(seller, answered=False)
    refused = api.patch(address_of(product), changes, format=encoding)
    assert (problem(refused)["code"], problem(refused)["attr"]) == (code, attr)
    assert Product.objects.get().title == product.title


def test_who_prefers_to_wait_for_a_change_gets_the_new_suggestions(committed_db: None) -> None:
    seller = make_user("waiting@shop.example")
    product = services.submit_product(seller=seller, title="Mug")
    classify_pending()
    worker = threading.Thread(target=_classify_next)
    worker.start()
    changed = api_client(seller).patch(
        address_of(product), {"title": "Acoustic guitar"}, format="json", headers={"Prefer": "wait=10"}
    )
    worker.join()
    assert (changed.json()["state"], changed["Preference-Applied"]) == ("needs_answer", "wait=10")
    assert changed.json()["top5"][0]["slug"] == "musical-instruments"


def _classify_next() -> None:
    while not Prediction.objects.due().exists():
        threading.Event().wait(0.05)
    classify_pending()
    connection.close()


def test_two_changes_of_different_fields_are_both_kept(committed_db: None) -> None:
    seller = make_user("twice@shop.example")
    product = services.submit_product(seller=seller, title="Mug")
    barrier = threading.Barrier(2)

    def change(values: dict[str, str]) -> None:
        barrier.wait()
        assert api_client(seller).patch(address_of(product), values, format="json").status_code == 200
        connection.close()

    threads = [threading.Thread(target=change, args=[values]) for values in ({"title": "Cup"}, {"sku": "C-1"})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    changed = Product.objects.get()
    assert (changed.title, changed.sku) == ("Cup", "C-1")


def test_a_change_counts_as_an_upload(
    api: APIClient, seller: User, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(seller, answered=False)
    monkeypatch.setattr(UploadThrottle, "rate", "1/minute", raising=False)
    answers = [api.patch(address_of(product), {"sku": str(number)}, format="json") for number in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


def test_a_deleted_product_is_gone_and_its_answer_stays_as_history(
    api: APIClient, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller)
    services.record_answer(prediction=product.prediction, category=None)
    deleted = api.delete(address_of(product))
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert [api.get(address_of(product)).status_code, api.delete(address_of(product)).status_code] == [404, 404]
    kept = api.get(f"/api/v1/predictions/{product.prediction_id}").json()
    assert (kept["product"], kept["feedback"]["verdict"]) == (None, "none")


def test_a_deleted_product_is_listed_on_request_and_restored(
    api: APIClient, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller, answered=False)
    before = api.get(address_of(product)).json()
    api.delete(address_of(product))
    (listed,) = api.get("/api/v1/products", {"deleted": "true"}).json()["results"]
    assert (listed["id"], api.get("/api/v1/products", {"deleted": "false"}).json()["results"]) == (before["id"], [])
    assert listed["deleted_at"]
    restored = api.post(f"{address_of(product)}/restore")
    assert (restored.status_code, restored.json()) == (200, before)
    assert api.post(f"{address_of(product)}/restore").status_code == 404


def test_restoring_rejects_fields_and_repeats_its_response_for_a_key(
    api: APIClient, seller: User, make_product: MakeProduct
) -> None:
    product = make_product(seller, answered=False)
    api.delete(address_of(product))
    refused = api.post(f"{address_of(product)}/restore", {"title": "Mug"}, format="json")
    assert problem(refused)["code"] == "unknown_field"
    answers = [api.post(f"{address_of(product)}/restore", headers={"Idempotency-Key": "k"}) for _try in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200] and answers[0].json() == answers[1].json()


def test_a_deleted_product_is_not_changed(api: APIClient, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller, answered=False)
    api.delete(address_of(product))
    assert api.patch(address_of(product), {"title": "Mine"}, format="json").status_code == 404
    assert api.get("/api/v1/products", {"deleted": "perhaps"}).status_code == 400


def test_another_sellers_product_is_neither_changed_nor_deleted(
    api: APIClient, other_seller: User, make_product: MakeProduct
) -> None:
    product = make_product(other_seller, answered=False)
    answers = [api.patch(address_of(product), {"title": "Mine"}, format="json"), api.delete(address_of(product))]
    services.trash_products(products=Product.objects.all())
    answers += [api.post(f"{address_of(product)}/restore")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert api.get("/api/v1/products", {"deleted": "true"}).json()["results"] == []
    assert Product.objects.get().title == product.title


def test_the_best_matches_come_first_where_they_are_asked_for(api: APIClient, seller: User) -> None:
    for number, title in enumerate(("Watch", "Strap for watches", "Mug")):
        services.submit_product(
            seller=seller, title=title, description="Not a watch." if number else "", sku=f"w-{number}"
        )

    def titles(**query: str) -> list[str]:
        return [row["title"] for row in api.get("/api/v1/products", query).json()["results"]]

    assert titles(q="watches") == ["Mug", "Strap for watches", "Watch"]
    assert titles(q="watches", sort="best_match")[-1] == "Mug"
    assert titles(q="W-2", sort="best_match")[0] == "Mug"
    assert titles(sort="newest") == ["Mug", "Strap for watches", "Watch"]


def test_the_best_matches_are_paged_to_the_last_and_back(api: APIClient, seller: User) -> None:
    for number in range(5):
        services.submit_product(seller=seller, title=f"Mug {number}")
    address: str | None = "/api/v1/products?q=mug&sort=best_match&page_size=2"
    pages = []
    while address:
        page = api.get(address).json()
        pages.append([row["title"] for row in page["results"]])
        address = page["next"]
    assert pages == [["Mug 4", "Mug 3"], ["Mug 2", "Mug 1"], ["Mug 0"]]
    assert [row["title"] for row in api.get(page["previous"]).json()["results"]] == pages[1]


@pytest.mark.parametrize("query", ["sort=best_match", "sort=best_match&q=", "sort=best_match&q=%20"])
def test_without_a_search_the_newest_come_first_in_any_case(api: APIClient, seller: User, query: str) -> None:
    for title in ("Mug", "Watch"):
        services.submit_product(seller=seller, title=title)
    assert [row["title"] for row in api.get(f"/api/v1/products?{query}").json()["results"]] == ["Watch", "Mug"]
    assert problem(api.get("/api/v1/products?sort=oldest"))["code"] == "invalid_choice"
