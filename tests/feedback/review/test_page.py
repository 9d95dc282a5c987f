import csv
import io
import json
import re
import zipfile
from collections.abc import Callable

import numpy as np
import pyarrow.parquet
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from classifier.models import Category, ModelVersion
from feedback.models import CategoryProposal, Feedback, MonitoringReport, Review
from feedback.review import decisions
from feedback.review import export as export_module
from feedback.review.category_proposals import update_proposals
from feedback.services import record_feedback
from feedback.tasks import place_feedback
from portal.accounts.roles import Role
from portal.models import Product, User
from tests.support.accounts import logged_in_client, make_user
from tests.support.reviews import store_answer


@pytest.fixture
def slugs(db: None) -> list[str]:
    return list(Category.objects.values_list("slug", flat=True))


@pytest.fixture
def client(scientist: User) -> Client:
    return logged_in_client(scientist)


def page(client: Client, **query: str) -> str:
    answer = client.get(reverse("review"), query)
    assert answer.status_code == 200
    return answer.content.decode()


def hidden(html: str) -> dict[str, str]:
    """The hidden fields of the form that decides, as a browser without scripts sends them."""
    fields = re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)">', html)
    return {name: value for name, value in fields if name in ("feedback", "answered_at", "review", "blind")}


def act(client: Client, do: str, html: str = "", query: str = "", **more: str) -> str:
    """Press a button of the page; return the next one."""
    address = reverse("review") + query
    form = {**hidden(html or page(client)), "act": do, **more}
    return client.post(address, form, follow=True).content.decode()


def test_a_reviewer_works_through_the_queue_and_takes_it_back(
    client: Client, scientist: User, seller: User, slugs: list[str]
) -> None:
    for number in range(5):
        store_answer(seller, slugs[number], text=(slugs[1], 0.7), image=(slugs[2], 0.6), title=f"Mug {number}")
    place_feedback()
    order = [row.prediction.title for row in Feedback.objects.unreviewed().in_queue_order()]
    name = Category.objects.get(slug=slugs[7]).name
    html = page(client)
    assert order[0] in html and "70.0%" in html and "60.0%" in html and "Of the latest 5 answers" in html
    html = act(client, "accept", html)
    assert order[1] in html and f"Accepted: “{order[0]}”" in html
    html = act(client, "correct", html, category=name.upper())  # what is typed, whatever the case
    assert f"Corrected: {name}" in html
    html = act(client, "reject", html)
    html = act(client, "skip", html)
    assert "Skipped" in html and order[4] in html
    html = act(client, "undo", html)
    assert f'value="{Feedback.objects.get(prediction__title=order[3]).pk}"' in html  # the skipped one again
    html = act(client, "undo", html)
    assert Feedback.objects.get(prediction__title=order[2]).review == "open" and order[2] in html
    assert sorted(Feedback.objects.values_list("review", flat=True)) == [
        "accepted",
        "corrected",
        "open",
        "open",
        "open",
    ]
    html = act(client, "correct", html, slug=slugs[9])  # one of the five, by its number
    assert Feedback.objects.get(prediction__title=order[2]).correction == Category.objects.get(slug=slugs[9])
    for _rest in range(2):
        html = act(client, "flag", html)
    assert "Nothing waits for a review." in html and "5</strong> decided by you today" in html
    assert Review.objects.filter(reviewer=scientist).count() == 6


def test_filters_choose_and_wrong_ones_say_so(
    client: Client, seller: User, other_seller: User, slugs: list[str]
) -> None:
    clear = store_answer(
        seller, slugs[0], text=(slugs[0], 0.9), image=(slugs[0], 0.9), title="the clear mug with it for you"
    )
    store_answer(
        other_seller, slugs[1], text=(slugs[1], 0.3), image=(slugs[2], 0.9), title="der Becher und die Tasse mit"
    )
    place_feedback()
    clear.refresh_from_db()
    version = ModelVersion.objects.get(pk=clear.prediction.text_version_id)
    category = Category.objects.get(slug=slugs[0])
    today = f"{clear.answered_at:%Y-%m-%d}"
    for first in (
        {"category": str(category.pk)}, {"language": "en"}, {"confidence": "high"}, {"models": "agree"},
        {"seller": seller.email.upper()}, {"version": str(version.pk), "confidence": "high"},
        {"since": today, "until": today, "reason": clear.reason, "language": "en"},
    ):  # fmt: skip
        assert "clear mug" in page(client, **first), first
    for other in ({"language": "de"}, {"confidence": "low"}, {"models": "differ"}, {"seller": other_seller.email}):
        html = page(client, **other)
        assert "Becher" in html and "clear mug" not in html, other
    assert "No answer that matches the filters waits" in page(client, until="2020-01-01")
    assert "too far ahead" in page(client, until="9999-12-31")
    assert client.get(reverse("admin:feedback_feedback_changelist"), {"rank": "abc"}).status_code == 200
    for wrong in ({"seller": "nobody@shop.example"}, {"category": "x"}, {"since": "2020-13-01"}, {"version": "9" * 30},
                  {"since": today, "until": "2020-01-01"}, {"item": "nonsense"}, {"language": "\0"}):  # fmt: skip
        page(client, **wrong)
    assert "No account has this e-mail address." in page(client, seller="nobody@shop.example")
    # The filter stays while the queue is worked.
    html = page(client, language="de")
    assert "No answer that matches the filters waits" in act(client, "accept", html, query="?language=de")


def test_a_part_of_a_name_corrects_where_only_one_category_has_it(
    client: Client, seller: User, slugs: list[str]
) -> None:
    feedback = store_answer(seller, slugs[0], text=(slugs[1], 0.7))
    html = page(client)
    assert "There is no such category" in act(client, "correct", html, category="a")
    act(client, "correct", html, category="musical")
    feedback.refresh_from_db()
    assert feedback.correction and feedback.correction.slug == "musical-instruments"


def test_what_cannot_be_decided_says_why_and_changes_nothing(client: Client, seller: User, slugs: list[str]) -> None:
    feedback = store_answer(seller, slugs[0], text=(slugs[1], 0.7))
    html = page(client)
    assert "There is no such category" in act(client, "correct", html, category="Flying carpets")
    assert "There is no such category" in act(client, "correct", html)
    Category.objects.filter(slug=slugs[7]).update(is_active=False)
    off = Category.objects.get(slug=slugs[7]).name
    assert "There is no such category" in act(client, "correct", html, category=off)
    assert "The page is incomplete" in client.post(reverse("review"), {"act": "accept"}, follow=True).content.decode()
    client.post(reverse("review"), {"act": "explode"})
    assert "nothing left to undo" in act(client, "undo", html)
    record_feedback(prediction=feedback.prediction, category=Category.objects.get(slug=slugs[3]))
    assert "Nothing was decided" in act(client, "accept", html)
    assert not Review.objects.exists() and Feedback.objects.get().review == "open"


def test_blind_mode_hides_what_others_said(client: Client, seller: User, slugs: list[str]) -> None:
    store_answer(seller, slugs[0], text=(slugs[1], 0.7), wish="")
    html = page(client, blind="1")
    assert "70.0%" not in html and "The seller chose" not in html and seller.email not in html
    act(client, "correct", html, query="?blind=1", category=Category.objects.get(slug=slugs[0]).name)
    review = Review.objects.get()
    assert review.is_blind and review.verdict == "accept"
    none = store_answer(seller, None, text=(slugs[1], 0.7))
    act(client, "none", page(client, blind="1"), query="?blind=1")
    assert Feedback.objects.get(pk=none.pk).review == "accepted"
    store_answer(seller, slugs[4], text=(slugs[1], 0.7))
    act(client, "none", page(client, blind="1"), query="?blind=1")
    review = Review.objects.latest("pk")
    assert (review.verdict, review.label, review.feedback.review) == ("none", "none", "homeless")


def test_two_reviewers_judge_the_same_answers_and_their_agreement_is_shown(
    client: Client, seller: User, slugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "SECOND_SHARE", 1.0)
    for number in range(30):
        store_answer(seller, slugs[number % 3], text=(slugs[number % 3], 0.7))
    other = logged_in_client(make_user("second@shop.example", Role.DATA_SCIENTIST))
    assert "not enough data, 0 of 30 pairs" in page(client)
    html = page(client)
    for _number in range(30):
        html = act(client, "accept", html)
    assert "Nothing waits for a review" in html  # nobody is asked about what they decided themselves
    html = page(other)
    html = act(other, "correct", html, category="no such category")
    assert "Second opinion" in html and "The seller chose" not in html, "a slip shows nothing"
    for number in range(30):
        assert "Second opinion" in html and "The seller chose" not in html
        feedback = Feedback.objects.get(pk=hidden(html)["feedback"])
        right = feedback.category if number % 10 else Category.objects.get(slug=slugs[9])
        assert right
        html = act(other, "correct", html, slug=right.slug)
    cache.delete("review:kappa")
    assert re.search(r"kappa 0\.8\d \(0\.\d\d to [01]\.\d\d\), n 30", page(client))


def test_a_second_opinion_is_asked_of_one_reviewer_at_a_time(
    client: Client, seller: User, slugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "SECOND_SHARE", 1.0)
    store_answer(seller, slugs[0], text=(slugs[0], 0.7))
    act(client, "accept")
    second, third = (
        logged_in_client(make_user(f"{name}@shop.example", Role.DATA_SCIENTIST)) for name in ("second", "third")
    )
    assert "Second opinion" in page(second) and "Nothing waits" in page(third)
    act(second, "skip")
    assert "Second opinion" in page(third)


def test_two_reviewers_are_not_shown_the_same_item_at_once(client: Client, seller: User, slugs: list[str]) -> None:
    for _number in range(2):
        store_answer(seller, slugs[0], text=(slugs[1], 0.7))
    other = logged_in_client(make_user("second@shop.example", Role.DATA_SCIENTIST))
    mine, theirs = hidden(page(client))["feedback"], hidden(page(other))["feedback"]
    assert mine != theirs and hidden(page(client))["feedback"] == mine


def test_only_reviewers_see_the_queue_the_proposals_and_the_export(browser: Client, scientist: User) -> None:
    scientist.groups.clear()
    scientist.user_permissions.add(Permission.objects.get(codename="view_feedback"))
    for name in ("review", "review_proposals", "review_export"):
        for method in ("get", "post"):
            assert getattr(logged_in_client(scientist), method)(reverse(name)).status_code == 403
            assert getattr(browser, method)(reverse(name)).status_code == 302


def test_the_page_asks_the_database_no_more_often_when_there_is_more(
    client: Client, seller: User, slugs: list[str]
) -> None:
    counts = []
    for many in (1, 40):
        for _number in range(many):
            store_answer(seller, slugs[0], text=(slugs[1], 0.7), image=(slugs[1], 0.7))
        page(client)
        with CaptureQueriesContext(connection) as queries:
            page(client)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 30, counts


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_the_export_holds_the_filtered_answers_with_their_photos(
    client: Client, scientist: User, seller: User, slugs: list[str], make_product: Callable[..., Product],
    monkeypatch: pytest.MonkeyPatch, format: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(export_module, "ROWS_PER_BATCH", 2)
    product = make_product(seller, photo=True)
    with_photo = record_feedback(prediction=product.prediction, category=Category.objects.get(slug=slugs[0]))
    for number in range(4):
        store_answer(seller, slugs[1], text=(slugs[1], 0.7), title=f'Mug "{number}",\n=1+1')
    store_answer(seller, slugs[2], text=(slugs[1], 0.7), review="rejected")
    decisions.record_review(
        feedback=with_photo, verdict=Review.Verdict.CORRECT, category=Category.objects.get(slug=slugs[5]),
        reviewer=scientist,
    )  # fmt: skip
    answer = client.get(reverse("review_export"), {"review": ["open", "corrected"], "format": format})
    content = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    table = archive.read(f"answers.{format}")
    rows = (
        list(csv.DictReader(io.StringIO(table.decode(), newline="")))
        if format == "csv"
        else pyarrow.parquet.read_table(io.BytesIO(table)).to_pylist()
    )
    assert len(rows) == 5 and {row["review"] for row in rows} == {"open", "corrected"}
    (row,) = (row for row in rows if row["photo"])
    assert (row["id"], row["chosen"], row["final"]) == (str(with_photo.pk), slugs[0], slugs[5])
    assert archive.read(row["photo"])[:2] == b"\xff\xd8"
    assert json.loads(row["text_probabilities"])
    assert {r["title"] for r in rows if not r["photo"]} == {f'Mug "{number}",\n=1+1' for number in range(4)}
    assert LogEntry.objects.filter(user=scientist, change_message__startswith="Exported").count() == 1


def test_an_export_of_nothing_is_an_empty_table_and_a_wrong_filter_exports_nothing(client: Client) -> None:
    for format in ("csv", "parquet"):
        answer = client.get(reverse("review_export"), {"format": format})
        archive = zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))  # type: ignore[attr-defined]
        assert archive.namelist() == [f"answers.{format}"]
    for wrong in ({"format": "csv", "seller": "nobody@shop.example"}, {"format": "exe"}):
        assert "<form" in client.get(reverse("review_export"), wrong).content.decode()


def nowhere(seller: User, slugs: list[str], count: int, direction: int, title: str) -> list[Feedback]:
    """None-of-these answers whose texts are alike."""
    random = np.random.default_rng(direction)
    rows = []
    for number in range(count):
        vector = np.zeros(384)
        vector[direction] = 1
        vector += random.normal(0, 0.01, 384)
        rows.append(
            store_answer(seller, None, text=(slugs[0], 0.3), title=f"{title} {number}", embedding=vector.tolist())
        )
    return rows


def test_alike_products_without_a_category_become_one(
    client: Client, scientist: User, seller: User, slugs: list[str]
) -> None:
    drones = nowhere(seller, slugs, 6, 3, "Quadcopter drone camera")
    nowhere(seller, slugs, 5, 9, "Bonsai ficus")
    nowhere(seller, slugs, 4, 20, "Too few")
    assert update_proposals() == 2 and update_proposals() == 2
    html = client.get(reverse("review_proposals")).content.decode()
    assert "drone" in html and "ficus" in html and "Too few" not in html
    proposal = CategoryProposal.objects.get(size=6)
    assert set(proposal.words) >= {"quadcopter", "drone", "camera"}
    form = {"proposal": str(proposal.pk), "name": "Drones", "retrain": "on"}
    taken = Category.objects.get(slug=slugs[0]).name
    assert "already" in client.post(reverse("review_proposals"), {**form, "name": taken.upper()}).content.decode()
    assert "Latin letters" in client.post(reverse("review_proposals"), {**form, "name": "โดรน"}).content.decode()
    assert not Category.objects.filter(name="Drones").exists()
    assert "is a category now" in client.post(reverse("review_proposals"), form, follow=True).content.decode()
    gone = {**form, "proposal": "999999", "name": "Kites"}
    assert "Nothing was changed" in client.post(reverse("review_proposals"), gone, follow=True).content.decode()
    category = Category.objects.get(slug="drones")
    trusted = Feedback.objects.trusted().filter(correction=category, reviewed_by=scientist)
    assert {row.pk for row in trusted} == {row.pk for row in drones}
    assert Review.objects.filter(category=category).count() == 6
    assert MonitoringReport.objects.get().asks_retraining
    assert LogEntry.objects.filter(object_id=str(category.pk), user=scientist).exists()
    assert (
        "decided or regrouped"
        in client.post(reverse("review_proposals"), {**form, "name": "Drones 2"}, follow=True).content.decode()
    )
    assert not Category.objects.filter(name="Drones 2").exists()


def test_what_was_turned_down_is_not_proposed_again(client: Client, seller: User, slugs: list[str]) -> None:
    nowhere(seller, slugs, 6, 3, "Mystery box")
    update_proposals()
    proposal = CategoryProposal.objects.get()
    client.post(reverse("review_proposals"), {"proposal": str(proposal.pk), "reject": "1"})
    nowhere(seller, slugs, 6, 3, "Mystery box again")  # others that are like it
    assert update_proposals() == 0
    assert "No proposals." in client.get(reverse("review_proposals")).content.decode()


def test_the_log_shows_who_did_what(client: Client, scientist: User, seller: User, slugs: list[str]) -> None:
    store_answer(seller, slugs[0], text=(slugs[1], 0.7))
    act(client, "reject")
    html = client.get("/admin/admin/logentry/").content.decode()
    assert "Rejected" in html and scientist.email in html
    assert "Rejected" not in client.get("/admin/admin/logentry/", {"q": "nobody@shop.example"}).content.decode()
    change = client.get(f"/admin/feedback/feedback/{Feedback.objects.get().pk}/change/").content.decode()
    assert "Rejected" in change and reverse("review") in change
