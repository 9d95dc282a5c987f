"""A request with an Idempotency-Key is processed once."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from classifier.models import Prediction
from classifier.tasks import classify_pending
from feedback.models import Feedback
from portal.api import idempotency
from portal.models import IdempotentRequest, Product, User
from portal.products.services import create_photo_drafts
from tests.support.accounts import make_user
from tests.support.api import api_client, problem
from tests.support.photos import photo_upload, product_photo

MakeProduct = Callable[..., Product]
PREDICTIONS = "/api/v1/predictions"
KEY = {"Idempotency-Key": "8e03978e-40d5-43e6-bc93-6894a57f9324"}


def test_the_same_request_gets_the_first_response_again(api: APIClient) -> None:
    sent = [api.post(PREDICTIONS, {"title": "Mug", "image": photo_upload()}, headers=KEY)]
    classify_pending()  # the product changes; the response that was sent does not
    sent.append(api.post(PREDICTIONS, {"image": photo_upload(), "title": "Mug"}, headers=KEY))
    first, again = sent
    assert (first.status_code, first.content, first["Location"]) == (
        again.status_code,
        again.content,
        again["Location"],
    )
    assert [answer.get("Idempotency-Replayed") for answer in sent] == [None, "true"]
    assert Product.objects.count() == 1


@pytest.mark.parametrize("key", ['"a key"', "a-key", "x" * 255, '"\\"', "0"])
def test_a_key_with_and_without_quotes_is_accepted(api: APIClient, key: str) -> None:
    answers = [api.post(PREDICTIONS, {"title": "Mug"}, headers={"Idempotency-Key": key}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert Product.objects.count() == 1


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "two words", "caf\u00e9", '"open'])
def test_what_is_no_key_is_rejected(api: APIClient, key: str) -> None:
    refused = api.post(PREDICTIONS, {"title": "Mug"}, headers={"Idempotency-Key": key})
    assert (refused.status_code, problem(refused)["code"]) == (400, "invalid_idempotency_key")
    assert not Product.objects.exists()


@pytest.mark.parametrize(
    "other",
    [
        {"title": "Cup"},
        {"title": "Mug", "sku": "1"},
        {"title": "Mug", "image": photo_upload(product_photo(size=(480, 500)))},
        {"title": "Mug", "bulk": "true"},
    ],
)
def test_another_request_with_the_same_key_is_rejected(api: APIClient, other: dict[str, Any]) -> None:
    api.post(PREDICTIONS, {"title": "Mug", "image": photo_upload()}, headers=KEY)
    refused = api.post(PREDICTIONS, other, headers=KEY)
    assert (refused.status_code, problem(refused)["code"]) == (422, "idempotency_key_reused")
    assert Product.objects.count() == 1


def test_a_key_belongs_to_its_seller(api: APIClient, other_seller: User) -> None:
    answers = [client.post(PREDICTIONS, {"title": "Mug"}, headers=KEY) for client in (api, api_client(other_seller))]
    assert [answer.get("Idempotency-Replayed") for answer in answers] == [None, None]
    assert {product.seller_id for product in Product.objects.all()} == {user.pk for user in User.objects.all()}


def test_a_request_that_was_rejected_can_be_corrected_under_its_key(api: APIClient) -> None:
    refused = api.post(PREDICTIONS, {"titel": "Mug"}, headers=KEY)
    accepted = api.post(PREDICTIONS, {"title": "Mug"}, headers=KEY)
    assert [refused.status_code, accepted.status_code] == [400, 202]


def test_an_answer_is_recorded_once_under_its_key(api: APIClient, seller: User, make_product: MakeProduct) -> None:
    address = f"{PREDICTIONS}/{make_product(seller).prediction_id}/feedback"
    first = api.post(address, {"category": "beauty"}, format="json", headers=KEY)
    api.post(address, {"category": None}, format="json")  # a later answer, without a key
    again = api.post(address, {"category": "beauty"}, format="json", headers=KEY)
    assert first.content == again.content and Feedback.objects.get().category is None
    elsewhere = f"{PREDICTIONS}/{make_product(seller, answered=False).prediction_id}/feedback"
    assert api.post(elsewhere, {"category": "beauty"}, format="json", headers=KEY).status_code == 422


def test_after_a_day_a_key_is_new_and_its_response_deleted(api: APIClient) -> None:
    api.post(PREDICTIONS, {"title": "Mug"}, headers=KEY)
    IdempotentRequest.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    answer = api.post(PREDICTIONS, {"title": "Cup"}, headers=KEY)
    assert answer.status_code == 202 and Product.objects.count() == 2
    IdempotentRequest.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    assert (idempotency.delete_expired(), IdempotentRequest.objects.count()) == (1, 0)


def test_of_simultaneous_requests_one_is_processed(committed_db: None) -> None:
    seller = make_user("fast@shop.example")
    clients = [api_client(seller) for _ in range(6)]
    barrier = threading.Barrier(len(clients))
    codes: list[int] = []

    def send(client: APIClient) -> None:
        barrier.wait()
        codes.append(client.post(PREDICTIONS, {"title": "Mug", "image": photo_upload()}, headers=KEY).status_code)
        connection.close()

    threads = [threading.Thread(target=send, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Product.objects.count() == Prediction.objects.count() == 1
    assert set(codes) <= {202, 409} and 202 in codes


def test_a_request_during_the_first_is_a_conflict_until_its_lease_ends(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "_give_up", lambda claim: None)  # as a process that was killed leaves it
    api.post(PREDICTIONS, {}, headers=KEY)
    IdempotentRequest.objects.update(fingerprint=_fingerprint_of(api, {"title": "Mug"}))
    early = api.post(PREDICTIONS, {"title": "Mug"}, headers=KEY)
    assert (early.status_code, problem(early)["code"], early["Retry-After"]) == (409, "idempotency_in_progress", "1")
    IdempotentRequest.objects.update(lease_expires_at=timezone.now())
    assert api.post(PREDICTIONS, {"title": "Mug"}, headers=KEY).status_code == 202


def _fingerprint_of(api: APIClient, data: dict[str, str]) -> str:
    """Return the fingerprint of a request, read from the row that it leaves under another key."""
    api.post(PREDICTIONS, data, headers={"Idempotency-Key": "other"})
    Product.objects.all().delete()
    return IdempotentRequest.objects.get(key="other").fingerprint


def test_a_process_that_dies_after_the_effect_leaves_the_response(api: APIClient) -> None:
    first = api.post(PREDICTIONS, {"title": "Mug"}, headers=KEY)
    IdempotentRequest.objects.update(lease_token=first.json()["id"], lease_expires_at=timezone.now())
    again = api.post(PREDICTIONS, {"title": "Mug"}, headers=KEY)
    assert again.content == first.content and Product.objects.count() == 1


def test_a_request_that_lost_its_lease_changes_nothing(
    api: APIClient, seller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_over(**values: Any) -> Any:
        """Let another request take over the key while the photo is stored."""
        IdempotentRequest.objects.update(lease_token="3490999e-545f-4ec6-a354-ba303aece0a6")
        return create_photo_drafts(**values)

    monkeypatch.setattr("portal.products.services.create_photo_drafts", take_over)
    late = api.post(PREDICTIONS, {"title": "Mug", "image": photo_upload()}, headers=KEY)
    assert (late.status_code, problem(late)["code"]) == (409, "idempotency_in_progress")
    assert not Product.objects.exists()
