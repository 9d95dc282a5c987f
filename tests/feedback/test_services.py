import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.files.storage import storages
from django.db import IntegrityError, connection
from django.test import Client

from classifier.archive import writer
from classifier.models import Category, Prediction
from feedback.models import Feedback
from feedback.services import NotAnswerable, record_feedback, review_feedback
from feedback.tasks import archive_feedback
from portal.models import Product, User

MakeProduct = Callable[..., Product]


def test_an_answer_before_the_result_is_refused(seller: User, make_product: MakeProduct) -> None:
    with pytest.raises(NotAnswerable):
        record_feedback(prediction=make_product(seller, answered=False).prediction, category=None)


def test_an_answer_that_changes_while_it_is_archived_is_archived_again(
    seller: User, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = make_product(seller).prediction
    first, second = Category.objects.all()[:2]
    record_feedback(prediction=prediction, category=first)
    write = writer.write_file

    def slow_write(*arguments: Any) -> None:
        """The answer changes and is archived by another worker before this write arrives."""
        monkeypatch.setattr(writer, "write_file", write)
        record_feedback(prediction=prediction, category=second)
        archive_feedback()
        write(*arguments)

    monkeypatch.setattr(writer, "write_file", slow_write)
    archive_feedback()
    kept = json.loads(storages["archive"].open(writer.archive_path(prediction.pk, "feedback.json")).read())
    assert kept["category"] == second.slug
    assert Feedback.objects.get().archived_at


def test_the_same_answer_twice_is_one(seller: User, make_product: MakeProduct) -> None:
    prediction = make_product(seller).prediction
    category = Category.objects.get(slug=prediction.top5[0]["slug"])
    first = record_feedback(prediction=prediction, category=category)
    again = record_feedback(prediction=prediction, category=category)
    assert (again.pk, again.earlier, again.answered_at) == (first.pk, [], first.answered_at)


def test_a_wish_beside_a_category_is_dropped(seller: User, make_product: MakeProduct) -> None:
    prediction = make_product(seller).prediction
    assert record_feedback(prediction=prediction, category=Category.objects.first(), wish="Books").wish == ""


def test_answers_at_the_same_moment_leave_one_row(committed_db: None, seller: User, make_product: MakeProduct) -> None:
    prediction = make_product(seller).prediction
    categories = list(Category.objects.all()[:6])

    def say(category: Category) -> None:
        record_feedback(prediction=Prediction.objects.get(pk=prediction.pk), category=category)
        connection.close()

    sellers = [threading.Thread(target=say, args=[category]) for category in categories]
    for thread in sellers:
        thread.start()
    for thread in sellers:
        thread.join()
    feedback = Feedback.objects.get()
    assert len(feedback.earlier) == 5
    assert {feedback.category.slug, *(e["category"] for e in feedback.earlier)} == {c.slug for c in categories}  # type: ignore[union-attr]


def test_the_database_refuses_a_verdict_that_contradicts_itself(seller: User, make_product: MakeProduct) -> None:
    prediction = make_product(seller).prediction
    with pytest.raises(IntegrityError):
        Feedback.objects.create(prediction=prediction, seller=seller, verdict="none", category=Category.objects.first())


def test_reviewed_answers_are_trusted_until_they_change(
    seller: User, scientist: User, make_product: MakeProduct
) -> None:
    prediction = make_product(seller).prediction
    first, second = Category.objects.all()[:2]
    feedback = record_feedback(prediction=prediction, category=first)
    assert not Feedback.objects.trusted()
    assert review_feedback(ids=[feedback.pk], review=Feedback.Review.ACCEPTED, reviewer=scientist) == 1
    assert review_feedback(ids=[feedback.pk], review=Feedback.Review.ACCEPTED, reviewer=scientist) == 0
    assert Feedback.objects.trusted().get().reviewed_by == scientist
    record_feedback(prediction=prediction, category=first)  # the same answer again
    assert Feedback.objects.trusted().exists()
    record_feedback(prediction=prediction, category=second)
    changed = Feedback.objects.get()
    assert (changed.review, changed.reviewed_by, changed.reviewed_at) == (Feedback.Review.OPEN, None, None)


@pytest.mark.parametrize(("action", "review"), [("accept", "accepted"), ("reject", "rejected"), ("flag", "flagged")])
def test_data_scientists_review_answers_in_the_admin(
    client: Client, seller: User, scientist: User, make_product: MakeProduct, action: str, review: str
) -> None:
    feedback = record_feedback(prediction=make_product(seller).prediction, category=Category.objects.first())
    client.force_login(scientist)
    form = {"action": action, "_selected_action": [str(feedback.pk)]}
    assert client.post("/admin/feedback/feedback/", form).status_code == 302
    feedback.refresh_from_db()
    assert (feedback.review, feedback.reviewed_by) == (review, scientist)
    assert client.get(f"/admin/feedback/feedback/{feedback.pk}/change/").status_code == 200


def test_an_answer_that_changed_after_the_list_was_shown_is_not_accepted(
    client: Client, seller: User, scientist: User, make_product: MakeProduct
) -> None:
    first, second = Category.objects.all()[:2]
    changed, same = (
        record_feedback(prediction=make_product(seller).prediction, category=first) for _number in range(2)
    )
    client.force_login(scientist)
    page = client.get("/admin/feedback/feedback/").content.decode()
    (seen,) = set(re.findall(r'name="seen" value="([^"]+)"', page))
    record_feedback(prediction=changed.prediction, category=second)
    form = {"action": "accept", "_selected_action": [str(changed.pk), str(same.pk)], "seen": seen}
    answer = client.post("/admin/feedback/feedback/", form, follow=True).content.decode()
    assert [row.pk for row in Feedback.objects.trusted()] == [same.pk]
    assert "1 answer is now: Accepted" in answer and "1 answer was not changed" in answer


@pytest.mark.parametrize("seen", ["", "yesterday", "2026-01-01"])
def test_a_form_that_does_not_say_when_it_was_made_breaks_nothing(
    client: Client, seller: User, scientist: User, make_product: MakeProduct, seen: str
) -> None:
    feedback = record_feedback(prediction=make_product(seller).prediction, category=Category.objects.first())
    client.force_login(scientist)
    form = {"action": "accept", "_selected_action": [str(feedback.pk)], "seen": seen}
    assert client.post("/admin/feedback/feedback/", form).status_code == 302
    assert Feedback.objects.trusted().exists() == (seen != "2026-01-01")


def test_who_may_only_look_reviews_nothing(
    client: Client, seller: User, scientist: User, make_product: MakeProduct
) -> None:
    feedback = record_feedback(prediction=make_product(seller).prediction, category=Category.objects.first())
    scientist.groups.clear()
    scientist.user_permissions.add(Permission.objects.get(codename="view_feedback"))
    client.force_login(scientist)
    client.post("/admin/feedback/feedback/", {"action": "accept", "_selected_action": [str(feedback.pk)]})
    feedback.refresh_from_db()
    assert feedback.review == Feedback.Review.OPEN
