"""Sellers leave: nothing of them stays, and nothing of anybody else goes."""

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.sessions.models import Session
from django.core.files.storage import default_storage, storages
from django.core.management import call_command
from django.db import connection
from django.db.models import CASCADE, SET_NULL
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken
from moto.server import ThreadedMotoServer

from classifier.archive import writer
from classifier.models import ModelVersion, Prediction, ShadowAnswer
from feedback.models import CategoryProposal, Erasure, Feedback
from portal.models import Product, ProductPhoto, User
from portal.privacy import erasing
from portal.privacy import services as privacy
from portal.privacy.models import PrivacyEvent
from portal.products import services
from tests.support.accounts import make_user
from tests.support.private_data import STORAGE_ALIASES, fill_account
from training.datasets.snapshot_erasure import remove_erased_rows
from training.datasets.snapshot_storage import fetch_corpus
from training.datasets.snapshots import make_dataset
from training.models import Example

pytestmark = pytest.mark.django_db
WORD = "Zanzibarquill"  # in every text of the seller who goes
Via = Erasure.Via


@pytest.fixture
def s3(own_storages: None, bucket: ThreadedMotoServer) -> ThreadedMotoServer:
    """The storages on an S3 server that is empty."""
    default_storage.bucket.objects.all().delete()  # type: ignore[attr-defined]
    return bucket


@pytest.fixture
def leaver(db: None) -> User:
    return make_user("leaver@quill.example")


def erase(user: User) -> Erasure:
    erasure = privacy.request_erasure(user=user, by=user, via=Via.PAGE, now=True)
    erasing.erase_due()
    return Erasure.objects.get(pk=erasure.pk)


def tables_with(text: str) -> list[str]:
    """Return the tables of which a row, written out, has the text."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT count(*) FROM "{table}" AS row WHERE row::text ILIKE %s', [f"%{text}%"])  # noqa: S608
            if cursor.fetchone()[0]:
                found.append(table)
    return found


def rows_of(user: int) -> dict[str, int]:
    """Return how many rows refer to an account, by table."""
    counts = {}
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.concrete_fields:
            if field.is_relation and field.related_model is User:
                count = model._default_manager.filter(**{field.attname: user}).count()
                counts[f"{model._meta.label}.{field.name}"] = count
    return {name: count for name, count in counts.items() if count}


def objects(alias: str, folder: str = "") -> Iterator[str]:
    """Yield the names of all files in a storage."""
    try:
        folders, files = storages[alias].listdir(folder)
    except FileNotFoundError:
        return
    yield from (f"{folder}{name}" for name in files)
    for name in folders:
        yield from objects(alias, f"{folder}{name}/")


def contents() -> Iterator[tuple[str, bytes]]:
    """Yield all files of all storages but the models', Parquet written out."""
    for alias in STORAGE_ALIASES:
        for name in objects(alias):
            content = storages[alias].open(name).read()
            if name.endswith(".parquet"):
                content = repr(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
            yield f"{alias}:{name}", content


def test_after_an_erasure_nothing_of_the_seller_is_left_and_others_keep_all(
    s3: ThreadedMotoServer, leaver: User, other_seller: User, administrator: User
) -> None:
    mine, theirs = fill_account(leaver, WORD), fill_account(other_seller, "Ordinary", count=12)
    dataset = make_dataset()
    before = dataset.checksum
    version = ModelVersion.objects.first()
    assert version
    ShadowAnswer.objects.create(prediction=mine[0].prediction, version=version, best="beauty")
    AuthToken.objects.create(user=leaver)
    TOTP.activate(leaver, generate_totp_secret())
    EmailAddress.objects.create(user=leaver, email="second@quill.example")
    LogEntry.objects.log_actions(administrator.pk, User.objects.filter(pk=leaver.pk), CHANGE)
    LogEntry.objects.log_actions(administrator.pk, Product.objects.filter(seller=leaver), CHANGE)
    proposal = CategoryProposal.objects.create(words=[WORD], size=2, version=version, centre=[0.5])
    proposal.answers.set(Feedback.objects.filter(prediction__in=[mine[0].prediction_id, theirs[0].prediction_id]))
    LogEntry.objects.log_actions(administrator.pk, [proposal], CHANGE)
    LogEntry.objects.create(user=administrator, action_flag=CHANGE, change_message="seller=leaver%40quill.example")
    Client().force_login(leaver)
    others = Client()
    others.force_login(other_seller)
    ids, pk = [product.prediction_id for product in mine], leaver.pk
    photos = {name for product in mine for name in (product.photo_large, product.photo_small)}
    photos |= set(ProductPhoto.objects.filter(seller=leaver).values_list("large", flat=True))
    copies = set(Example.objects.filter(external_id__in=ids).values_list("photo", flat=True))
    assert tables_with(WORD) and any(WORD.encode() in content for _name, content in contents())
    kept = {name: content for name, content in contents() if "datasets:snapshots" not in name}

    services.trash_products(products=Product.objects.filter(pk=mine[1].pk))
    erasure = erase(leaver)
    assert remove_erased_rows() == erasure.batches.count()

    assert erasure.state == Erasure.State.DONE
    assert (erasure.counts["products"], erasure.counts["predictions"], erasure.counts["archive objects"]) == (4, 4, 16)
    assert tables_with(WORD) == tables_with("quill.example") == []
    assert rows_of(pk) == {}
    assert not Example.objects.filter(external_id__in=ids).exists()
    assert [session.get_decoded()["_auth_user_id"] for session in Session.objects.all()] == [str(other_seller.pk)]
    files = dict(contents())
    assert not [name for name, content in files.items() if WORD.encode() in content or b"quill.example" in content]
    assert not [name for name in files if any(str(key) in name for key in ids) or name.split(":")[1] in photos]

    ours = [product.prediction_id for product in theirs]
    assert (
        Product.objects.filter(seller=other_seller).count() == Feedback.objects.count() == Example.objects.count() == 12
    )
    assert all(storages["archive"].exists(writer.archive_path(key, "feedback.json")) for key in ours)
    missing = {name for name, content in kept.items() if files.get(name) != content}
    photos |= {name.replace("large", "small") for name in photos}  # of the draft
    gone = {f"default:{name}" for name in photos} | {f"datasets:{name}" for name in copies}
    assert {name for name in missing if not any(str(key) in name for key in ids)} == gone
    dataset.refresh_from_db()
    assert dataset.checksum != before and dataset.manifest["cut_from"] == before
    assert dataset.manifest["exclusions"]["erased"] == 4
    assert fetch_corpus(dataset).manifest["sources"] == {"feedback": 12}
    assert not list(objects("datasets", f"snapshots/{before}/"))


def test_what_hangs_on_a_person_or_their_products_goes_with_them() -> None:
    """A new table that refers to sellers must say what becomes of its rows."""
    for target in (User, Product, Prediction, Feedback):
        for relation in target._meta.related_objects:
            name = f"{relation.related_model._meta.label}.{relation.field.name}"  # type: ignore[union-attr]
            if not relation.many_to_many and name != "portal.Product.prediction":
                assert relation.on_delete in (CASCADE, SET_NULL), name  # type: ignore[union-attr]


@pytest.mark.parametrize("call", ["delete_files", "delete_rows", "delete_user"])
def test_an_interrupted_erasure_continues_to_the_end(
    leaver: User, other_seller: User, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(erasing, "BATCH", 1)
    ids = [product.prediction_id for product in fill_account(leaver, WORD)]
    fill_account(other_seller, "Ordinary")
    real, calls = getattr(erasing.traces, call), []

    def dies(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == (1 if call == "delete_user" else 3):
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(erasing.traces, call, dies)
        with pytest.raises(KeyboardInterrupt):
            erase(leaver)
    assert Erasure.objects.get().state == Erasure.State.RUNNING
    assert erasing.erase_due() == 0  # another worker's, as far as anybody can tell
    Erasure.objects.update(due_at=timezone.now())  # its lease runs out
    erasing.erase_due()
    assert Erasure.objects.get().state == Erasure.State.DONE
    assert tables_with(WORD) == []
    assert not [name for name in objects("archive") if any(str(key) in name for key in ids)]
    assert len(list(objects("archive"))) == 16 and len(list(objects("default"))) >= 10
    assert Product.objects.filter(seller=other_seller).count() == 4


def test_an_erasure_waits_for_a_storage_that_is_away(s3: ThreadedMotoServer, leaver: User, settings: Any) -> None:
    fill_account(leaver, WORD)
    working = settings.STORAGES
    broken = {**working["archive"]["OPTIONS"], "endpoint_url": "http://127.0.0.1:9"}
    settings.STORAGES = {**working, "archive": {**working["archive"], "OPTIONS": broken}}
    erasure = erase(leaver)
    assert (erasure.state, erasure.lease) == (Erasure.State.RUNNING, None)
    assert erasure.error and erasure.due_at > timezone.now()
    assert not User.objects.get(pk=leaver.pk).is_active
    settings.STORAGES = working
    Erasure.objects.update(due_at=timezone.now())
    erasing.erase_due()
    assert Erasure.objects.get().state == Erasure.State.DONE
    assert list(objects("archive")) == []


def test_the_second_pass_finds_what_a_worker_has_written_since(leaver: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "SECOND_PASS", timedelta(minutes=2))
    ids = [product.prediction_id for product in fill_account(leaver, WORD)]
    erasure = erase(leaver)
    assert erasure.state == Erasure.State.RUNNING and User.objects.filter(pk=leaver.pk).exists()
    writer.write_file(ids[0], "text.json", {"late": WORD})
    late = services.submit_product(seller=leaver, title=WORD)
    past = timezone.now() - timedelta(seconds=1)
    for _pass in range(2):  # the late product makes it wait once more
        Erasure.objects.update(due_at=past)
        Erasure.objects.filter(sweep_at__isnull=False).update(sweep_at=past)
        erasing.erase_due()
    assert Erasure.objects.get().state == Erasure.State.DONE
    assert list(objects("archive")) == [] and not Prediction.objects.filter(pk=late.prediction_id).exists()


def test_erasures_are_replayed_after_a_backup_was_restored(s3: ThreadedMotoServer, leaver: User) -> None:
    """The backup knows the seller and nothing of the erasure; the number of another one was given anew."""
    ids = [product.prediction_id for product in fill_account(leaver, WORD)]
    pk, joined, email = leaver.pk, leaver.date_joined, leaver.email
    saved = {name: content for name, content in contents() if not name.startswith("private")}
    gone = make_user("gone@quill.example")
    number = gone.pk
    erase(leaver), erase(gone)
    Erasure.objects.all().delete()
    PrivacyEvent.objects.all().delete()
    restored = User.objects.create(pk=pk, email=email, name=WORD, date_joined=joined)
    services.submit_product(seller=restored, title=WORD)
    newcomer = User.objects.create(pk=number, email="newcomer@shop.example")
    services.submit_product(seller=newcomer, title="Ordinary")
    for (
        name,
        content,
    ) in saved.items():  # the bucket has all files, also those that the database's backup is too old for
        alias, path = name.split(":", 1)
        storages[alias].save(path, io.BytesIO(content))
    out = io.StringIO()
    call_command("replay_erasures", stdout=out, stderr=io.StringIO())
    assert "Replayed 2" in out.getvalue()
    assert list(User.objects.filter(pk__in=[pk, number])) == [newcomer]
    assert tables_with(WORD) == tables_with("quill.example") == []
    assert not [name for name in objects("archive") if any(str(key) in name for key in ids)]
    assert not list(objects("default"))
    assert Product.objects.get().seller == newcomer
    assert PrivacyEvent.objects.filter(kind=PrivacyEvent.Kind.ERASURE_REPLAYED).count() == 2
    call_command("replay_erasures", stdout=out, stderr=io.StringIO())  # twice changes nothing
    assert Product.objects.get().seller == newcomer


def test_the_ledger_identifies_no_person(leaver: User) -> None:
    fill_account(leaver, WORD)
    erasure = erase(leaver)
    files = {name: storages["private"].open(name).read().decode() for name in objects("private")}
    assert f"erasures/{erasure.pk}/request.json" in files and f"erasures/{erasure.pk}/000001.json" in files
    assert not [name for name, text in files.items() if WORD in text or "quill" in text]
    assert json.loads(files[f"erasures/{erasure.pk}/request.json"])["state"] == "done"


def test_a_request_that_the_backup_has_lost_still_waits_for_its_day(leaver: User) -> None:
    asked = privacy.request_erasure(user=leaver, by=leaver, via=Via.PAGE)
    erasing.erase_due()
    Erasure.objects.all().delete()
    call_command("replay_erasures", stdout=io.StringIO(), stderr=io.StringIO())
    assert (Erasure.objects.get().pk, Erasure.objects.get().state) == (asked.pk, Erasure.State.ASKED)
    privacy.cancel_erasure(user=leaver, by=leaver)
    erasing.erase_due()
    Erasure.objects.all().delete()
    call_command("replay_erasures", stdout=io.StringIO(), stderr=io.StringIO())
    assert Erasure.objects.get().state == Erasure.State.CANCELLED
