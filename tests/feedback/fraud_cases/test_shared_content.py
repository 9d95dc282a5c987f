"""Photos that a case's products share with other sellers' products, in cases and outside them."""

import random
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from classifier.models import Prediction
from common.photos.copies import signed
from feedback.fraud_cases import shared_content
from feedback.fraud_cases.detection import find_fraud
from feedback.fraud_cases.shared_content import ProductMatches, find_matches, hash_photos
from feedback.models import Case
from feedback.statistics.duplicates import COMMON_SELLERS
from feedback.tasks import find_fraud as find_fraud_task
from portal.models import User
from tests.support.accounts import logged_in_client
from tests.support.fraud_answers import create_sellers, store_answers
from tests.support.photos import product_photo

pytestmark = pytest.mark.django_db
PHOTO = signed(0xF0E1D2C3B4A59687)


@pytest.fixture
def case() -> Case:
    """A liar's case whose first product has a photograph."""
    before = timezone.now() - timedelta(hours=1)
    store_answers(create_sellers(14), until=before)
    store_answers(create_sellers(1, "liar"), lies=0.3, until=before, seed=2)
    [case] = find_fraud().opened
    hashed(case, PHOTO)
    return case


def hashed(case: Case, number: int) -> None:
    first = case.products.first()
    assert first
    Prediction.objects.filter(pk=first.prediction_id).update(photo_hash=number)


def listed(people: Sequence[User], number: int, title: str = "Guitar") -> list[Prediction]:
    rows = [Prediction(seller=person, title=title, photo_small="x.jpg", photo_hash=number) for person in people]
    return Prediction.objects.bulk_create(rows)


def found(case: Case) -> list[ProductMatches]:
    return find_matches(case, list(case.products.select_related("prediction")))


def matching_sellers(case: Case) -> set[tuple[str, ...]]:
    return {(other.prediction.seller.email, *other.kinds) for match in found(case) for other in match.matches}


def test_photos_of_all_sellers_match_if_at_most_one_bit_differs(case: Case) -> None:
    people = create_sellers(6, "other")
    for person, flipped in zip(people, (0, 1, 1 << 40, 1 << 63, 0b11, 0xFF << 20), strict=True):
        listed([person], signed((PHOTO % 2**64) ^ flipped))
    listed([case.seller], PHOTO)
    assert matching_sellers(case) == {(f"other{number}@shop.example", "photo") for number in range(4)}
    [match] = found(case)
    assert match.product == case.products.first() and {other.case for other in match.matches} == {None}


def test_the_oldest_product_of_a_seller_is_shown(case: Case) -> None:
    [other] = create_sellers(1, "other")
    _newer, older = listed([other, other], PHOTO)
    Prediction.objects.filter(pk=older.pk).update(created_at=timezone.now() - timedelta(days=9))
    [match] = found(case)
    assert [other.prediction for other in match.matches] == [older]


@pytest.mark.parametrize("number", [0, -1, 0b111, signed(2**64 - 1 - 0b111)])
def test_a_plain_surface_matches_nothing(case: Case, number: int) -> None:
    hashed(case, number)
    listed(create_sellers(1, "other"), number)
    assert found(case) == []


def test_content_of_many_sellers_is_left_out_also_among_cases(case: Case) -> None:
    people = create_sellers(COMMON_SELLERS, "other")
    fewer = listed(people[:-1], PHOTO)
    assert len(matching_sellers(case)) == COMMON_SELLERS - 1
    Case.objects.create(seller=people[0], favourite="beauty", figures={}).products.create(
        prediction=fewer[0], predicted="beauty", chosen="appliances", confidence=1, usual=1, answered_at=timezone.now()
    )
    assert ("other0@shop.example", "photo") in matching_sellers(case)
    listed(people[-1:], PHOTO)
    assert found(case) == []


def test_a_photo_with_very_many_uses_is_left_out(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_content, "MAXIMUM_USES", 3)
    [other] = create_sellers(1, "other")
    listed([other] * 2, PHOTO)
    assert len(found(case)) == 1
    listed([other] * 2, PHOTO)
    assert found(case) == []


def test_all_sellers_are_searched_by_one_query_that_uses_the_index(
    case: Case, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    rng = random.Random(1)
    people = create_sellers(50, "other")
    for _batch in range(40):
        Prediction.objects.bulk_create(
            Prediction(
                seller=rng.choice(people), title="Mug", photo_hash=signed(rng.getrandbits(64)) if row % 2 else None
            )
            for row in range(500)
        )
    products = list(case.products.select_related("prediction"))
    photos = {number: signed(rng.getrandbits(64)) for number in range(24)}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE classifier_prediction")
        cursor.execute(
            "EXPLAIN " + shared_content.SAME_PHOTO, shared_content.same_photo_parameters(case.seller_id, photos)
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "prediction_photo_hash" in plan and "Seq Scan on classifier_prediction" not in plan, plan
    listed(people[:3], PHOTO)
    # All sellers' products, those of cases, what is shown of the matches, their sellers' cases.
    with django_assert_max_num_queries(4):
        assert len(find_matches(case, products)[0].matches) == 3


def test_photographs_from_before_there_were_hashes_are_hashed_for_cases_alone() -> None:
    before = timezone.now() - timedelta(hours=1)
    one, copy = (default_storage.save(name, ContentFile(product_photo(size=size))) for name, size in
                 (("one.jpg", (640, 480)), ("copy.jpg", (320, 240))))  # fmt: skip
    store_answers(create_sellers(14), until=before)
    first, second = create_sellers(2, "liar")
    store_answers([first], lies=0.3, until=before, seed=2, photo=one)
    store_answers([second], lies=0.3, until=before, seed=3, photo=copy)
    find_fraud_task()
    cases = {case.seller_id: case for case in Case.objects.all()}
    assert set(cases) == {first.pk, second.pk}
    with_hash = Prediction.objects.filter(photo_hash__isnull=False)
    assert with_hash.count() == sum(case.products.count() for case in cases.values())
    assert hash_photos() == 0
    [*shared] = found(cases[first.pk])
    assert shared and {other.case for match in shared for other in match.matches} == {cases[second.pk]}


def test_a_missing_photo_is_looked_for_once(case: Case) -> None:
    Prediction.objects.filter(pk__in=case.products.values("prediction")).update(photo_small="gone.jpg", photo_hash=None)
    assert hash_photos() == case.products.count() and hash_photos() == 0
    assert found(case) == []


def test_the_page_shows_sellers_with_the_same_photo(scientist: User, case: Case) -> None:
    people = create_sellers(5, "other")
    rows = listed(people, PHOTO, title="A <b>guitar</b>")
    known = Case.objects.create(seller=people[4], favourite="beauty", figures={})
    client = logged_in_client(scientist)
    page = client.get(reverse("admin:feedback_case_change", args=[case.pk])).content.decode()
    section = re.sub(r"\s+", " ", page[page.index("The same photos and texts at other sellers") :])
    assert "The same photo: " in section and "A &lt;b&gt;guitar&lt;/b&gt;" in section and "and 2 more" in section
    for address in (
        reverse("admin:feedback_case_change", args=[known.pk]),
        reverse("admin:classifier_prediction_change", args=[rows[4].pk]),
        reverse("admin:classifier_prediction_photo", args=[rows[4].pk, "small"]),
    ):
        assert address in section
    assert all(person.email in section for person in people), "also those that unfold"
    assert "(fraud case, open)" in section and section.index(people[4].email) < section.index(people[0].email)
