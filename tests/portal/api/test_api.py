import base64
import threading
import time
import uuid
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken
from rest_framework.test import APIClient

from classifier.models import Category, Prediction
from classifier.tasks import classify_pending
from feedback.models import Feedback
from portal.api.throttles import UploadThrottle, UserThrottle
from portal.models import Product, User
from tests.support.accounts import confirm_password, make_user
from tests.support.api import problem
from tests.support.photos import photo_upload, product_photo

MakeProduct = Callable[..., Product]
PREDICTIONS = "/api/v1/predictions"


def test_a_prediction_is_taken_and_fetched_from_its_location(api: APIClient, seller: User) -> None:
    taken = api.post(PREDICTIONS, {"title": "Acoustic guitar", "image": photo_upload(), "sku": "G-1"})
    assert taken.status_code == 202
    assert taken.json()["state"] == "queued"
    classify_pending()
    result = api.get(taken["Location"]).json()
    assert result["state"] == "done"
    assert len(result["top5"]) == 5 and set(result["top5"][0]) == {"category", "slug", "probability"}
    assert result["confidence"] in ("very_likely", "likely", "not_sure")
    assert len(result["text"]["probabilities"]) == len(result["image"]["probabilities"]) == 18
    assert result["product"] == str(Product.objects.get(seller=seller, sku="G-1").pk)


def test_who_prefers_to_wait_gets_the_result(committed_db: None) -> None:
    api = APIClient()
    user = make_user("waiting@shop.example")
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {AuthToken.objects.create(user=user)[1]}")

    def work() -> None:
        while not Prediction.objects.due().exists():
            time.sleep(0.05)
        classify_pending()
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    answer = api.post(PREDICTIONS, {"title": "Acoustic guitar"}, headers={"Prefer": "wait=10"})
    worker.join()
    assert answer.status_code == 200
    assert answer["Preference-Applied"] == "wait=10"
    assert answer.json()["state"] == "done"


def test_who_waits_in_vain_gets_202(api: APIClient) -> None:
    answer = api.post(PREDICTIONS, {"title": "Guitar"}, headers={"Prefer": "respond-async, wait=0"})
    assert answer.status_code == 202
    assert "Location" in answer


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 400, "nothing_given"),
        ({"title": " \x00 "}, 400, "nothing_given"),
        ({"title": "x" * 10_000}, 400, "max_length"),
        ({"image": ("mug.gif", b"GIF89a" + b"\0" * 99)}, 415, "unsupported_photo"),
        ({"image": ("mug.jpg", b"")}, 400, "empty_photo"),
        ({"image": ("mug.jpg", product_photo()[:900])}, 400, "broken_photo"),
        ({"image": ("mug.jpg", b"\xff\xd8\xff" + b"x" * 13_000_000)}, 413, "photo_too_large"),
        ({"image": "not a file"}, 400, "invalid"),
    ],
)
def test_bad_input_is_refused_in_the_one_shape(
    api: APIClient, fields: dict[str, object], status: int, code: str
) -> None:
    data = {k: photo_upload(v[1], v[0]) if isinstance(v, tuple) else v for k, v in fields.items()}
    refused = api.post(PREDICTIONS, data)
    assert refused.status_code == status
    assert problem(refused)["code"] == code
    assert not Product.objects.exists()


def test_json_is_refused_where_a_form_is_needed(api: APIClient) -> None:
    refused = api.post(PREDICTIONS, {"title": "Guitar"}, format="json")
    assert refused.status_code == 415
    assert problem(refused)["code"] == "unsupported_media_type"


def test_strangers_and_revoked_tokens_are_refused(client: Client, seller: User) -> None:
    token, secret = AuthToken.objects.create(user=seller)
    headers = {"Authorization": f"Bearer {secret}"}
    assert client.get("/api/v1/categories", headers=headers).status_code == 200
    token.delete()
    for answer in (client.get("/api/v1/categories", headers=headers), client.get("/api/v1/products")):
        assert answer.status_code == 401
        assert problem(answer)["code"] in ("authentication_failed", "not_authenticated")


def test_a_session_works_too_but_not_without_its_csrf_token(seller: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(seller)
    assert browser.get("/api/v1/products").status_code == 200
    assert browser.post(PREDICTIONS, {"title": "Guitar"}).status_code == 403


def test_feedback_is_recorded_once_and_can_change(api: APIClient, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller)
    address = f"{PREDICTIONS}/{product.prediction_id}/feedback"
    first = api.post(address, {"category": product.prediction.top5[2]["slug"]}, format="json")
    assert (first.status_code, first.json()["verdict"], first.json()["rank"]) == (200, "top5", 3)
    second = api.post(address, {"category": None, "wish": "Second-hand books"}, format="json")
    assert (second.json()["verdict"], second.json()["wish"]) == ("none", "Second-hand books")
    assert Feedback.objects.count() == 1
    assert api.get(f"{PREDICTIONS}/{product.prediction_id}").json()["feedback"]["verdict"] == "none"


@pytest.mark.parametrize(
    "body",
    [{}, {"category": "no-such"}, {"category": 7}, {"category": ["beauty"]}, [], {"category": None, "wish": 300 * "x"}],
)
def test_bad_feedback_is_refused(api: APIClient, seller: User, make_product: MakeProduct, body: object) -> None:
    product = make_product(seller)
    refused = api.post(f"{PREDICTIONS}/{product.prediction_id}/feedback", body, format="json")
    assert refused.status_code == 400
    problem(refused)
    assert not Feedback.objects.exists()


TOO_DEEP, TOO_LONG = "[" * 100_000, '{"category": "' + "x" * 1_000_000 + '"}'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (r'{"category": "\u0000"}', 400, "invalid"),
        (r'{"category": "\ud800"}', 400, "invalid"),
        (TOO_DEEP, 400, "parse_error"),
        (TOO_LONG, 413, "request_too_large"),
    ],
    ids=["nul", "surrogate", "too deep", "too long"],
)
def test_feedback_that_no_database_or_parser_takes_is_refused(
    api: APIClient, seller: User, make_product: MakeProduct, body: str, status: int, code: str
) -> None:
    address = f"{PREDICTIONS}/{make_product(seller).prediction_id}/feedback"
    refused = api.post(address, body, content_type="application/json")
    assert (refused.status_code, problem(refused)["code"]) == (status, code)
    assert not Feedback.objects.exists()


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"title": "x" * 1_000_001}, 413, "request_too_large"),
        ({f"field{number}": "x" for number in range(1001)}, 400, "too_many_fields"),
        ({f"image{number}": ("mug.jpg", b"") for number in range(21)}, 400, "too_many_files"),
    ],
    ids=["too long", "too many fields", "too many files"],
)
@pytest.mark.parametrize("by_session", [False, True])
def test_a_form_beyond_the_limits_is_refused_in_the_one_shape(
    api: APIClient, seller: User, fields: dict[str, object], status: int, code: str, by_session: bool
) -> None:
    if by_session:  # its CSRF check is what reads the form
        api = APIClient(enforce_csrf_checks=True)
        api.force_login(seller)
        api.cookies["csrftoken"] = "c" * 32
    data = {k: photo_upload(v[1], v[0]) if isinstance(v, tuple) else v for k, v in fields.items()}
    refused = api.post(PREDICTIONS, data)
    assert (refused.status_code, problem(refused)["code"]) == (status, code)
    assert not Product.objects.exists()


@pytest.mark.parametrize(
    "position",
    [
        "p=foo", "o=5&p=", "r=1&p=\0", "p=0001-01-01T00:00:00%2B23:59", "p=9999-12-31T23:59:59-23:59", "p=2026-01-01",
        "r=x", "o=-1",
    ],
)  # fmt: skip
def test_a_made_up_cursor_is_not_found(api: APIClient, position: str) -> None:
    cursor = base64.b64encode(position.encode()).decode()
    answer = api.get("/api/v1/products", {"cursor": cursor})
    assert (answer.status_code, problem(answer)["code"]) == (404, "not_found")


@pytest.mark.parametrize(("moment", "status"), [
    ("0001-01-01T00:00:00+23:59", 400), ("9999-12-31T23:59:59-23:59", 400), ("2026-01-01T00:00:00+23:59", 200),
    ("nonsense", 400), ("\0", 400),
])  # fmt: skip
def test_a_time_is_understood_or_refused(api: APIClient, moment: str, status: int) -> None:
    for name in ("created_after", "created_before"):
        assert api.get("/api/v1/products", {name: moment}).status_code == status


@pytest.mark.parametrize("address", ["/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/products/"])
def test_an_address_that_is_not_there_has_the_one_shape_too(api: APIClient, address: str) -> None:
    for answer in (api.get(address), api.post(address), APIClient().get(address)):
        assert (answer.status_code, problem(answer)["code"]) == (404, "not_found")


def test_feedback_before_the_result_is_a_conflict(api: APIClient, seller: User, make_product: MakeProduct) -> None:
    product = make_product(seller, answered=False)
    early = api.post(f"{PREDICTIONS}/{product.prediction_id}/feedback", {"category": "beauty"}, format="json")
    assert early.status_code == 409
    assert problem(early)["code"] == "no_result_yet"


def test_products_come_newest_first_in_pages_that_stay_right(
    api: APIClient, seller: User, make_product: MakeProduct
) -> None:
    made = [make_product(seller, title=f"Mug {i}", answered=False) for i in range(5)]
    page = api.get("/api/v1/products", {"page_size": 2}).json()
    make_product(seller, title="A newcomer", answered=False)
    seen = [row["title"] for row in page["results"]]
    while page["next"]:
        page = api.get(page["next"]).json()
        seen += [row["title"] for row in page["results"]]
    assert seen == [product.title for product in reversed(made)]


def test_products_are_filtered(api: APIClient, seller: User, make_product: MakeProduct) -> None:
    guitar = make_product(seller, title="Red guitar")
    make_product(seller, title="Red mug", answered=False)

    def titles(**query: str) -> list[str]:
        return [row["title"] for row in api.get("/api/v1/products", query).json()["results"]]

    assert titles(q="guitar") == titles(state="needs_answer") == ["Red guitar"]
    assert titles(state="waiting") == ["Red mug"]
    assert titles(created_after=guitar.created_at.isoformat()) == ["Red mug", "Red guitar"]
    assert titles(created_before=guitar.created_at.isoformat()) == []
    assert api.get("/api/v1/products", {"state": "nonsense"}).status_code == 400
    assert api.get("/api/v1/products", {"cursor": "nonsense"}).status_code == 404


def test_categories_are_all_there(api: APIClient) -> None:
    rows = api.get("/api/v1/categories").json()
    assert len(rows) == Category.objects.count() == 18
    assert {"slug": "beauty", "name": "Beauty", "found_as": None} in rows


def test_categories_are_found_by_their_names_and_by_what_belongs_into_them(api: APIClient) -> None:
    def found(query: str) -> list[dict[str, str | None]]:
        return api.get("/api/v1/categories", {"q": query}).json()  # type: ignore[no-any-return]

    assert found("bicycles") == [{"slug": "sports-outdoors", "name": "Sports & Outdoors", "found_as": "bicycle"}]
    assert found("sports outdoors") == [{"slug": "sports-outdoors", "name": "Sports & Outdoors", "found_as": None}]
    assert found("kayak paddle") == found("!?") == []
    assert len(found("")) == 18


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"q": "x" * 201}, "max_length"),
        ({"q": "a\0b"}, "null_characters_not_allowed"),
        ({"query": "bike"}, "unknown_parameter"),
        ({"q": ["bike", "lock"]}, "repeated_parameter"),
    ],
)
def test_a_wrong_search_for_categories_is_refused(api: APIClient, query: dict[str, str], code: str) -> None:
    refused = api.get("/api/v1/categories", query)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, code)


@pytest.mark.parametrize("throttle", [UploadThrottle, UserThrottle])
def test_who_is_too_fast_hears_when_to_come_back(
    api: APIClient, monkeypatch: pytest.MonkeyPatch, throttle: type[UserThrottle]
) -> None:
    monkeypatch.setattr(throttle, "rate", "2/minute", raising=False)
    answers = [api.post(PREDICTIONS, {"title": "Guitar"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert problem(answers[-1])["code"] == "throttled"
    assert int(answers[-1]["Retry-After"]) > 0


def test_a_prediction_that_is_not_there_is_not_found(api: APIClient) -> None:
    assert problem(api.get(f"{PREDICTIONS}/{uuid.uuid4()}"))["code"] == "not_found"


def test_a_token_is_shown_once_and_revoked(browser: Client, seller: User) -> None:
    confirm_password(browser)
    page = browser.post(reverse("token_create"))
    secret = page.context["new_token"]
    assert secret in page.content.decode()
    assert secret not in browser.get(reverse("account")).content.decode()
    token = AuthToken.objects.get(user=seller)
    assert secret not in (token.digest, token.token_key)
    browser.post(reverse("token_revoke", args=[token.pk]))
    assert not AuthToken.objects.exists()
