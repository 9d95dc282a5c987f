import uuid
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from classifier.models import Category
from feedback.models import Feedback
from feedback.review import queue as ordering
from feedback.review.queue import RANDOM_SHARE, prioritise_new_answers
from feedback.services import record_feedback
from feedback.statistics.review_priority import select_random_share
from feedback.tasks import place_feedback
from portal.models import User
from tests.support.reviews import store_answer


@pytest.fixture
def slugs(db: None) -> list[str]:
    return list(Category.objects.values_list("slug", flat=True))


def crowd(seller: User, slugs: list[str], count: int) -> None:
    """Answers that nobody would doubt."""
    for number in range(count):
        slug = slugs[number % 4]
        store_answer(seller, slug, text=(slug, 0.9 + number / 1000), image=(slug, 0.9))


def test_a_label_error_comes_first_and_a_clear_answer_late(seller: User, slugs: list[str]) -> None:
    ids = (uuid.uuid4() for _number in range(1000))
    aimed = (pk for pk in ids if not select_random_share([str(pk)], RANDOM_SHARE)[0])
    crowd(seller, slugs, 40)
    error = store_answer(seller, slugs[0], text=(slugs[1], 0.97), image=(slugs[1], 0.97), pk=next(aimed))
    apart = store_answer(seller, slugs[2], text=(slugs[2], 0.8), image=(slugs[3], 0.8), pk=next(aimed))
    doubt = store_answer(seller, slugs[1], text=(slugs[1], 0.3), pk=next(aimed))
    place_feedback()
    order = [row for row in Feedback.objects.unreviewed().in_queue_order() if row.inclusion_probability is None]
    assert [(row.pk, row.reason) for row in order[:3]] == [
        (error.pk, "label error"), (apart.pk, "disagreement"), (doubt.pk, "doubt"),
    ]  # fmt: skip
    error, apart = order[:2]
    assert error.disagreement == pytest.approx(0, abs=1e-6) and apart.disagreement == pytest.approx(0.72, abs=0.01)
    assert apart.text_version and apart.confidence == 0.8 and order[-1].worth


def test_what_is_unlike_the_others_is_worth_a_look(seller: User, slugs: list[str]) -> None:
    random = np.random.default_rng(0)
    rows = []
    for number in range(40):
        vector = np.zeros(384)
        vector[40 if number == 39 else 3] = 1
        vector += random.normal(0, 0.01, 384)
        pk = next(pk for pk in iter(uuid.uuid4, None) if not select_random_share([str(pk)], RANDOM_SHARE)[0])
        rows.append(store_answer(seller, slugs[0], text=(slugs[0], 0.9), embedding=vector.tolist(), pk=pk))
    place_feedback()
    first = Feedback.objects.unreviewed().in_queue_order()[:3]
    assert (rows[39].pk, "unusual") in [(row.pk, row.reason) for row in first]


def test_the_random_share_is_the_same_however_answers_rank(seller: User, slugs: list[str]) -> None:
    crowd(seller, slugs, 60)
    place_feedback()
    rows = list(Feedback.objects.all())
    drawn = select_random_share([str(row.pk) for row in rows], RANDOM_SHARE)
    assert [row.inclusion_probability for row in rows] == [RANDOM_SHARE if is_drawn else None for is_drawn in drawn]
    assert all((row.reason == "random") == bool(is_drawn) for row, is_drawn in zip(rows, drawn, strict=True))


def test_placing_is_done_once_and_in_batches(seller: User, slugs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MAX_COMPARED", 8)
    crowd(seller, slugs, 20)
    assert [prioritise_new_answers() for _round in range(4)] == [8, 8, 4, 0]
    assert not Feedback.objects.filter(worth=None).exists()
    before = {row.pk: row.worth for row in Feedback.objects.all()}
    late = store_answer(seller, slugs[0], text=(slugs[1], 0.97))
    place_feedback()
    assert {row.pk: row.worth for row in Feedback.objects.exclude(pk=late.pk)} == before  # the yardstick stays


def test_answers_without_probabilities_or_category_have_a_place_too(seller: User, slugs: list[str]) -> None:
    bare = store_answer(seller, slugs[0], text=(slugs[0], 0.9))
    bare.prediction.text_probabilities, bare.prediction.top5 = None, []  # moved to the archive
    bare.prediction.save(update_fields=["text_probabilities", "top5"])
    nowhere = store_answer(seller, None, text=(slugs[0], 0.9), title="ช้าง สีดำ")
    place_feedback()
    bare.refresh_from_db()
    nowhere.refresh_from_db()
    assert bare.worth and bare.confidence is None
    assert nowhere.worth and nowhere.language == "th"


def test_the_queue_reads_its_index(seller: User, slugs: list[str]) -> None:
    crowd(seller, slugs, 30)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    for filters, index in (({}, "feedback_queue"), ({"seller": seller}, "feedback_queue_seller")):
        plan = Feedback.objects.unreviewed().filter(**filters).in_queue_order()[:20].explain()
        assert index in plan and "Sort" not in plan, plan


def test_placing_asks_the_database_a_fixed_number_of_times(seller: User, slugs: list[str]) -> None:
    crowd(seller, slugs, 12)
    with CaptureQueriesContext(
        connection,
    ) as few:
        prioritise_new_answers()
    Feedback.objects.update(worth=None)
    crowd(seller, slugs, 36)
    with CaptureQueriesContext(connection) as many:
        prioritise_new_answers()
    assert len(many) == len(few)


def test_an_answer_that_changes_meanwhile_is_not_given_the_old_ones_place(
    seller: User, slugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feedback = store_answer(seller, slugs[0], text=(slugs[1], 0.97))
    other = store_answer(seller, slugs[2], text=(slugs[2], 0.97))
    really = ordering.order_for_review

    def slowly(*args: Any, **options: Any) -> Any:
        record_feedback(prediction=feedback.prediction, category=Category.objects.get(slug=slugs[1]))
        return really(*args, **options)

    monkeypatch.setattr(ordering, "order_for_review", slowly)
    prioritise_new_answers()
    for row in (feedback, other):
        row.refresh_from_db()
    assert feedback.worth is None and other.worth is not None
    monkeypatch.undo()
    prioritise_new_answers()
    feedback.refresh_from_db()
    assert feedback.worth is not None


def test_a_reason_is_told_only_where_it_holds(seller: User, slugs: list[str]) -> None:
    clear = store_answer(seller, slugs[0], text=(slugs[0], 0.999), image=(slugs[0], 0.999))
    wrong = store_answer(seller, slugs[0], text=(slugs[1], 0.999), image=(slugs[1], 0.999))
    prioritise_new_answers()
    for row in (clear, wrong):
        row.refresh_from_db()
    assert clear.reason in ("", "random") and wrong.reason in ("label error", "random")
