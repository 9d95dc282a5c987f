"""Sellers take a copy of their data with them, and what is old goes by itself."""

import csv
import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.core import mail
from django.core.files.storage import default_storage, storages
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from classifier.archive import writer
from classifier.models import Category, Prediction
from feedback.fraud_cases.services import appeal_case, clear_case, confirm_case
from feedback.models import Case, Feedback, Review
from feedback.review.decisions import record_review, undo_review
from portal.models import Product, User
from portal.privacy import exporting, retention
from portal.privacy.models import Export, PrivacyEvent
from portal.privacy.services import Refused, request_export
from portal.products import services
from tests.support.accounts import confirm_password
from tests.support.photos import photo_upload
from tests.support.private_data import CATEGORY_SLUGS, fill_account

pytestmark = pytest.mark.django_db
State = Export.State


def built(user: User) -> Export:
    request_export(user=user)
    exporting.build_due()
    return Export.objects.filter(user=user).latest("created_at")


def fetched(client: Client, export: Export) -> zipfile.ZipFile:
    confirm_password(client)
    answer = client.get(reverse("export_fetch", args=[export.pk]))
    assert answer["Content-Type"] == "application/zip" and "attachment" in answer["Content-Disposition"]
    return zipfile.ZipFile(io.BytesIO(b"".join(answer)))  # type: ignore[arg-type]


def test_a_copy_holds_all_that_is_known_of_its_owner_and_nothing_of_others(
    browser: Client, seller: User, other_seller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROWS_AT_ONCE", 2)
    fill_account(seller, "Mine"), fill_account(other_seller, "Theirs")
    Product.objects.filter(seller=seller).first().delete()  # type: ignore[union-attr]  # its prediction stays
    services.trash_products(products=Product.objects.filter(pk=Product.objects.filter(seller=seller).first().pk))  # type: ignore[union-attr]
    spreadsheet = services.submit_product(seller=seller, title="=cmd|' /C calc'!A0", description='Ein "Stück",\nzwei')
    AuthToken.objects.create(user=seller)
    confirm_password(browser)
    browser.post(reverse("export_ask"))
    assert "Waiting" in browser.get(reverse("account")).content.decode()
    exporting.build_due()
    export = Export.objects.get()
    assert "Download" in browser.get(reverse("export_state")).content.decode()
    zip = fetched(browser, export)
    assert zip.testzip() is None
    tables = {name: json.loads(zip.read(f"{name}.json")) for name in ("products", "predictions", "answers")}
    assert {name: len(rows) for name, rows in tables.items()} == {"products": 4, "predictions": 5, "answers": 4}
    assert [row["deleted"] is not None for row in tables["products"]].count(True) == 1
    account = json.loads(zip.read("account.json"))
    assert account["email"] == seller.email and len(account["tokens"]) == 1
    assert {row["id"] for row in tables["products"]} == {
        str(pk) for pk in Product.objects.filter(seller=seller).values_list("pk", flat=True)
    }
    assert {row["category"] for row in tables["answers"]} == {"beauty", "musical-instruments"}
    for name, rows in tables.items():
        lines = list(csv.DictReader(io.StringIO(zip.read(f"{name}.csv").decode("utf-8-sig"), newline="")))
        assert [line.get("id", line.get("prediction")) for line in lines] == [
            row.get("id", row.get("prediction")) for row in rows
        ]
    (risky,) = (row for row in tables["products"] if row["id"] == str(spreadsheet.pk))
    assert (risky["title"], risky["description"]) == (spreadsheet.title, spreadsheet.description)
    assert b"'=cmd|" in zip.read("products.csv") and b"\n=cmd|" not in zip.read("products.csv")
    pictures = [row["picture"] for row in tables["predictions"] if row["picture"]]
    assert len(pictures) == 4 and all(zip.read(name)[:3] == b"\xff\xd8\xff" for name in pictures)
    assert not any(b"Theirs" in zip.read(name) or b"other@" in zip.read(name) for name in zip.namelist())
    assert (export.rows, export.total, export.state) == (export.total, 32, State.READY)
    assert mail.outbox[-1].subject == "Aisle: Your data is ready" and mail.outbox[-1].to == [seller.email]
    kinds = set(PrivacyEvent.objects.values_list("kind", flat=True))
    assert kinds == {"export-asked", "export-ready", "export-fetched"}


def test_a_copy_holds_all_photos_of_a_product_in_their_order(browser: Client, seller: User) -> None:
    drafts = [services.create_photo_draft(seller=seller, upload=photo_upload()) for _number in range(3)]
    services.submit_product(seller=seller, title="Mug", photos=list(reversed(drafts)))
    zip = fetched(browser, built(seller))
    (product,) = table(zip, "products")
    names = [f"pictures/{draft.large.split('/')[1]}" for draft in reversed(drafts)]
    assert product["pictures"] == names and product["picture"] == names[0]
    assert all(zip.read(name)[:3] == b"\xff\xd8\xff" for name in names)


def table(zip: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    """Return a table of the copy, whose CSV has the same rows and columns."""
    rows: list[dict[str, Any]] = json.loads(zip.read(f"{name}.json"))
    lines = list(csv.DictReader(io.StringIO(zip.read(f"{name}.csv").decode("utf-8-sig"), newline="")))
    assert [list(line) for line in lines] == [list(row) for row in rows]
    return rows


def test_an_export_holds_reviewers_decisions_without_their_names(
    browser: Client, seller: User, other_seller: User, scientist: User, administrator: User
) -> None:
    (judged, taken_back, changed, _unjudged), others = (
        fill_account(seller, "Mine"),
        fill_account(other_seller, "Theirs", count=1),
    )
    Feedback.objects.update(review=Feedback.Review.OPEN)

    def decide(product: Product, verdict: Review.Verdict, category: Category | None = None) -> Review:
        feedback = Feedback.objects.get(prediction=product.prediction)
        return record_review(feedback=feedback, verdict=verdict, reviewer=scientist, category=category)

    decide(judged, Review.Verdict.FLAG)
    undo_review(review=decide(taken_back, Review.Verdict.REJECT), reviewer=scientist)
    decide(changed, Review.Verdict.CORRECT, Category.objects.get(slug=CATEGORY_SLUGS[1]))
    decide(others[0], Review.Verdict.FLAG)
    services.record_answer(prediction=changed.prediction, category=Category.objects.get(slug="appliances"))
    zip = fetched(browser, built(seller))
    rows = table(zip, "reviews")
    found = {row["prediction"]: row for row in rows}
    assert len(rows) == 3 and set(found) == {str(product.prediction_id) for product in (judged, taken_back, changed)}
    told = [(row["decision"], row["corrected_to"]) for row in rows]
    assert told == [("correct", CATEGORY_SLUGS[1]), ("reject", None), ("flag", None)], "the newest first"
    assert [row["taken_back"] is not None for row in rows] == [False, True, False]
    assert [row["answer_then"]["category"] for row in rows] == [CATEGORY_SLUGS[0], CATEGORY_SLUGS[1], CATEGORY_SLUGS[0]]
    assert all(row["decided"] for row in rows)
    for reviewer in (scientist, administrator):
        assert not any(reviewer.email.encode() in zip.read(name) for name in zip.namelist())


def test_an_export_holds_only_the_cases_that_its_owner_knows_of(
    browser: Client, seller: User, other_seller: User, scientist: User, settings: Any
) -> None:
    def opened(person: User = seller) -> Case:
        return Case.objects.create(
            seller=person, favourite="musical-instruments", figures={"posterior": 0.99}, reasons=["rate_above_peers"]
        )

    unheard = opened()
    assert table(fetched(browser, built(seller)), "cases") == [], "nobody has judged it"
    clear_case(case=unheard, by=scientist, reason="Innocent.")
    assert table(fetched(browser, built(seller)), "cases") == [], "the seller never heard of it"
    first = opened()
    confirm_case(case=first, by=scientist, reason="Surely on purpose.")
    appeal_case(seller=seller, note="They are guitars.")
    clear_case(case=first, by=scientist, reason="A rare guitar, surely.")
    second = opened()
    confirm_case(case=second, by=scientist, reason="Surely again.")
    confirm_case(case=opened(other_seller), by=scientist, reason="Surely another.")
    zip = fetched(browser, built(seller))
    newest, oldest = table(zip, "cases")
    assert (newest["state"], newest["your_note"], newest["you_wrote"]) == ("confirmed", "", None)
    assert (oldest["state"], oldest["your_note"]) == ("cleared", "They are guitars.")
    assert set(oldest) == {"opened", "state", "decided", "your_note", "you_wrote"} and None not in oldest.values()
    for word in (b"urely", b"Innocent", b"posterior", b"peers", b"scientist@", b"0.99"):
        assert not any(word in zip.read(name) for name in zip.namelist()), word
    settings.FRAUD_APPEALS = False
    assert table(fetched(browser, built(seller)), "cases") == [], "policy is to tell of none"


def test_an_export_can_be_downloaded_only_by_its_owner(seller: User, other_seller: User, administrator: User) -> None:
    address = reverse("export_fetch", args=[built(seller).pk])
    for stranger in (other_seller, administrator):
        client = Client()
        client.force_login(stranger)
        confirm_password(client)
        assert client.get(address).status_code == 404
    assert Client().get(address).status_code == 302


def test_a_copy_of_an_empty_account_is_whole(browser: Client, seller: User) -> None:
    zip = fetched(browser, built(seller))
    assert json.loads(zip.read("products.json")) == json.loads(zip.read("answers.json")) == []
    assert "README.txt" in zip.namelist()


def test_one_is_made_at_a_time_and_a_new_one_takes_the_place_of_the_old(browser: Client, seller: User) -> None:
    first = built(seller)
    confirm_password(browser)
    request_export(user=seller)
    with pytest.raises(Refused):
        request_export(user=seller)
    assert "already being created" in browser.post(reverse("export_ask"), follow=True).content.decode()
    exporting.build_due()
    first.refresh_from_db()
    assert first.state == State.DELETED and not storages["private"].exists(first.path)
    assert browser.get(reverse("export_fetch", args=[first.pk])).status_code == 404


def test_a_copy_is_deleted_when_its_time_is_over(browser: Client, seller: User) -> None:
    export = built(seller)
    Export.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    confirm_password(browser)
    assert browser.get(reverse("export_fetch", args=[export.pk])).status_code == 404
    assert "Download" not in browser.get(reverse("account")).content.decode()
    assert exporting.delete_old() == 1 and exporting.delete_old() == 0
    assert not storages["private"].exists(export.path)


def test_a_storage_that_stays_away_makes_a_copy_fail_in_words(
    browser: Client, seller: User, settings: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    broken = {**settings.STORAGES["private"], "OPTIONS": {"location": str(tmp_path / "file")}}
    settings.STORAGES = settings.STORAGES | {"private": broken}
    export = built(seller)
    assert (export.state, export.lease) == (State.RUNNING, None) and export.due_at > timezone.now()
    for _try in range(exporting.MOST_ATTEMPTS - 1):
        Export.objects.update(due_at=timezone.now())
        exporting.build_due()
    export.refresh_from_db()
    assert export.state == State.FAILED
    assert "could not be created" in browser.get(reverse("account")).content.decode()
    assert "could not be created" in mail.outbox[-1].subject


def test_a_copy_whose_maker_died_is_made_by_another(seller: User) -> None:
    request_export(user=seller)
    first = Export.objects.claim()
    assert first and exporting.build_due() == 0
    Export.objects.update(due_at=timezone.now())  # its lease runs out
    assert exporting.build_due() == 1
    with pytest.raises(exporting.ExportLost):
        exporting._build(first)  # the dead one was only slow
    assert Export.objects.get().state == State.READY


def test_a_lost_photo_is_named_in_the_copy(browser: Client, seller: User) -> None:
    product = fill_account(seller, "Mine")[0]
    default_storage.delete(product.photo_large)
    assert "1 pictures were no longer in our storage" in fetched(browser, built(seller)).read("README.txt").decode()


# Periods of keeping


def leave_behind(seller: User, word: str = "Old") -> tuple[Prediction, Product]:
    """Delete one of two old products, and edit the text of the other; return both's first rows."""
    gone, kept = fill_account(seller, word, count=2)
    services.trash_products(products=Product.objects.filter(pk=gone.pk))
    services.delete_trashed_products(products=Product.objects.filter(pk=gone.pk))
    edited = services.edit_product(product=kept, title="Now better", description="", sku="")
    Prediction.objects.filter(seller=seller).update(created_at=timezone.now() - timedelta(days=40))
    return gone.prediction, edited


def test_nothing_old_is_deleted_unless_a_setting_says_so(seller: User) -> None:
    leave_behind(seller)
    assert retention.delete_expired() == {}
    assert Prediction.objects.count() == 3


def test_leftovers_go_after_their_time_and_photos_in_use_stay(
    seller: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    gone, edited = leave_behind(seller)
    Product.objects.update(answer=None)  # the edited product was not answered before
    settings.DELETED_DAYS = 41
    assert retention.delete_expired() == {}
    settings.DELETED_DAYS = 30
    assert retention.delete_expired() == {"predictions": 2, "answers": 2, "photos": 2, "archive objects": 8}
    assert Prediction.objects.get() == edited.prediction and not Feedback.objects.exists()
    assert not default_storage.exists(gone.photo_large) and not default_storage.exists(gone.photo_small)
    assert default_storage.exists(edited.photo_large) and default_storage.exists(edited.photo_small)
    assert not storages["archive"].exists(writer.archive_path(gone.pk, "input.json"))
    assert PrivacyEvent.objects.get().counts["predictions"] == 2
    assert retention.delete_expired() == {}


def test_the_trash_is_emptied_after_its_days_unless_there_are_none(seller: User, settings: Any) -> None:
    old, young, _listed = fill_account(seller, "Mug", count=3)
    services.trash_products(products=Product.objects.filter(pk=old.pk), at=timezone.now() - timedelta(days=31))
    services.trash_products(products=Product.objects.filter(pk=young.pk), at=timezone.now() - timedelta(days=29))
    settings.TRASH_DAYS = 0
    assert retention.delete_expired() == {}
    settings.TRASH_DAYS = 30
    assert retention.delete_expired() == {"products": 1}
    assert not Product.objects.filter(pk=old.pk).exists() and Product.objects.count() == 2
    assert Prediction.objects.count() == 3 and PrivacyEvent.objects.get().counts == {"products": 1}


def test_a_product_keeps_its_answer_through_the_retention_of_earlier_predictions(seller: User, settings: Any) -> None:
    _gone, edited = leave_behind(seller)
    settings.DELETED_DAYS = 30
    assert retention.delete_expired()["predictions"] == 1
    answer = Product.objects.get(pk=edited.pk).answer
    assert answer and answer.prediction_id != edited.prediction_id
    services.record_answer(prediction=_done(edited.prediction), category=answer.category)
    assert retention.delete_expired()["predictions"] == 1
    assert Product.objects.get(pk=edited.pk).answer == Feedback.objects.get()


def test_the_photo_of_a_kept_answer_stays_when_a_later_prediction_with_it_goes(seller: User, settings: Any) -> None:
    _gone, edited = leave_behind(seller)
    changed = services.edit_product(product=edited, removed_photos=list(edited.photos.all()))
    Prediction.objects.update(created_at=timezone.now() - timedelta(days=40), state="done", probabilities={}, top5=[])
    settings.DELETED_DAYS = 30
    assert retention.delete_expired() == {"predictions": 2, "answers": 1, "photos": 2, "archive objects": 4}
    assert changed.answer and default_storage.exists(changed.answer.prediction.photo_small)
    assert not changed.photo_small


def _done(prediction: Prediction) -> Prediction:
    Prediction.objects.filter(pk=prediction.pk).update(state="done", probabilities={}, top5=[])
    return Prediction.objects.get(pk=prediction.pk)


def test_details_move_and_the_admins_log_is_cut_as_the_settings_say(
    seller: User, administrator: User, settings: Any
) -> None:
    fill_account(seller, "Old", count=2)
    Prediction.objects.update(created_at=timezone.now() - timedelta(days=400))
    LogEntry.objects.log_actions(administrator.pk, User.objects.filter(pk=seller.pk), CHANGE)
    LogEntry.objects.update(action_time=timezone.now() - timedelta(days=40))
    LogEntry.objects.log_actions(administrator.pk, User.objects.filter(pk=seller.pk), CHANGE)
    settings.DETAIL_MONTHS, settings.LOG_DAYS = 12, 30
    assert retention.delete_expired() == {"details moved to the archive": 2, "log lines": 1}
    assert Prediction.objects.filter(probabilities={}, text_embedding=None).count() == 2
    assert LogEntry.objects.count() == 1
