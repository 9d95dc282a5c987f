import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import ProtectedError
from django.test import Client

from classifier.models import Category, Prediction
from common.locks import Lock, hold_lock, try_lock
from feedback.models import Feedback
from feedback.services import record_feedback, review_feedback
from portal.models import Product, User
from tests.support.locks import await_waiting_for
from tests.support.product_files import import_table, plain_jpeg, write_table
from training.admin.data import _suspect
from training.datasets import feedback_examples, snapshots
from training.datasets.corpus import MANIFEST, CorpusError
from training.datasets.feedback_examples import absorb_feedback
from training.datasets.snapshot_storage import fetch_corpus
from training.datasets.snapshots import find_or_make_dataset, make_dataset
from training.models import FEEDBACK, Dataset, Example

pytestmark = pytest.mark.django_db

Review = Feedback.Review


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Sixty products in two categories; every fifth has a photo of its own."""
    folder = tmp_path / "shop"
    folder.mkdir()
    rows = []
    for number in range(60):
        letters = "".join(chr(97 + int(digit)) * 2 for digit in f"{number:02}")
        image = f"{number}.jpg" if number % 5 == 0 else ""
        if image:
            (folder / image).write_bytes(plain_jpeg((4 * number, 100, 50)))
        rows.append((number, f"thing {letters}", "", ("Beauty", "Pet Supplies")[number % 2], image))
    write_table(folder, rows)
    import_table(folder)
    return folder


def test_a_dataset_holds_the_examples_and_their_photos(shop: Path) -> None:
    dataset, is_new = find_or_make_dataset()
    assert is_new
    corpus = fetch_corpus(dataset)
    assert corpus.checksum == dataset.checksum
    assert corpus.labels == ["beauty", "pet-supplies"]
    found = {row["id"]: row for split in ("train", "validation", "test") for row in corpus.split(split)}
    assert len(found) == 60
    assert found["5"]["photo"] == storages["datasets"].open(Example.objects.get(external_id="5").photo).read()
    assert found["1"]["photo"] is None
    assert dataset.manifest["sources"] == {"shop": 60}


def test_nothing_changed_is_the_same_dataset(shop: Path) -> None:
    first, second = make_dataset(), make_dataset()
    assert first == second
    assert Dataset.objects.count() == 1


def test_a_new_dataset_leaves_the_old_as_it_was(shop: Path) -> None:
    old = make_dataset()
    write_table(shop, [("100", "one more thing entirely", "", "Beauty", "")])
    import_table(shop)
    assert make_dataset() != old
    assert sum(fetch_corpus(old).count(split) for split in ("train", "validation", "test")) == 60


def test_a_source_can_be_chosen_and_an_unknown_one_is_named(shop: Path) -> None:
    write_table(shop, [("100", "one more thing entirely", "", "Beauty", "")])
    import_table(shop, source="second")
    assert make_dataset(sources=["shop"]).manifest["sources"] == {"shop": 60}
    with pytest.raises(CorpusError, match="third.*second, shop"):
        make_dataset(sources=["third"])


def test_duplicates_and_categories_that_are_switched_off_are_left_out_and_counted(shop: Path) -> None:
    Category.objects.filter(name="Toys & Games").update(is_active=False)
    write_table(shop, [("x", "thing aabb", "", "Pet Supplies", ""), ("y", "old toy", "", "Toys & Games", "")])
    import_table(shop, source="second")
    exclusions = make_dataset().manifest["exclusions"]
    assert exclusions == {"duplicate": 1, "inactive_category": 1}


def test_a_category_without_a_training_row_is_left_out(shop: Path) -> None:
    write_table(shop, [("y", "old toy", "", "Toys & Games", "")])
    import_table(shop, source="second")
    Example.objects.filter(source="second").update(split="test")
    manifest = make_dataset().manifest
    assert manifest["exclusions"] == {"no_training_row": 1}
    assert "toys-games" not in manifest["classes"]


def test_a_category_with_examples_can_not_be_deleted(shop: Path) -> None:
    with pytest.raises(ProtectedError):
        Category.objects.get(name="Beauty").delete()


def test_an_empty_and_a_one_sided_dataset_are_refused(db: None, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="empty"):
        make_dataset()
    import_table(write_table(tmp_path / "one", [(i, f"thing {chr(97 + i) * 3}", "", "Beauty", "") for i in range(20)]))
    with pytest.raises(CommandError, match="one category"):
        call_command("make_dataset")
    assert not Dataset.objects.exists()


def test_a_photo_that_was_damaged_is_left_out_and_counted(shop: Path) -> None:
    storages["datasets"].save(Example.objects.get(external_id="5").photo, ContentFile(b"nonsense"))
    storages["datasets"].delete(Example.objects.get(external_id="10").photo)
    assert make_dataset().manifest["exclusions"] == {"photo_unreadable": 2}


def test_a_copy_is_downloaded_verified_and_mended(shop: Path, tmp_path: Path, settings: object) -> None:
    dataset = make_dataset()
    settings.DATASET_CACHE = tmp_path / "elsewhere"  # type: ignore[attr-defined]
    folder = fetch_corpus(dataset).folder
    assert folder == tmp_path / "elsewhere" / dataset.checksum
    shard = folder / dataset.manifest["shards"][0]["name"]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-5])
    fetch_corpus(dataset)
    assert shard.read_bytes() == whole
    assert [path.name for path in folder.parent.iterdir()] == [dataset.checksum]


def test_a_damaged_shard_in_the_storage_is_refused(shop: Path, tmp_path: Path, settings: object) -> None:
    dataset = make_dataset()
    settings.DATASET_CACHE = tmp_path / "elsewhere"  # type: ignore[attr-defined]
    name = f"{dataset.path}/{dataset.manifest['shards'][0]['name']}"
    content = storages["datasets"].open(name).read()
    storages["datasets"].save(name, ContentFile(content[:-1] + b"!"))
    with pytest.raises(CorpusError, match="damaged"):
        fetch_corpus(dataset)
    storages["datasets"].delete(name)
    with pytest.raises(CorpusError, match="missing"):
        fetch_corpus(dataset)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_full_disk_is_reported_and_leaves_nothing(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshots, "write_corpus", full)
    with pytest.raises(CorpusError, match="no room"):
        make_dataset()
    monkeypatch.undo()
    monkeypatch.setattr(type(storages["datasets"]), "_save", full)
    with pytest.raises(CorpusError, match="no room"):
        make_dataset()
    assert not Dataset.objects.exists()
    assert not list(Path(settings.DATASET_CACHE).glob(".making-*"))


def test_the_manifest_is_stored_last(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[str] = []
    storage = type(storages["datasets"])
    save = storage.save
    monkeypatch.setattr(storage, "save", lambda self, name, *rest: (saved.append(name), save(self, name, *rest))[1])
    dataset = make_dataset()
    assert saved[-1] == f"{dataset.path}/{MANIFEST}"
    assert len(saved) == len(dataset.manifest["shards"]) + 1


def test_only_accepted_feedback_is_learnt_from(
    shop: Path, seller: User, scientist: User, make_product: Callable[..., Product]
) -> None:
    prediction = make_product(seller, photo=True).prediction
    beauty, pets = Category.objects.get(name="Beauty"), Category.objects.get(name="Pet Supplies")
    feedback = record_feedback(prediction=prediction, category=beauty)
    assert make_dataset().manifest["exclusions"] == {"feedback_not_reviewed": 1}
    review_feedback(ids=[feedback.pk], review=Review.ACCEPTED, reviewer=scientist)
    dataset = make_dataset()
    assert dataset.manifest["sources"] == {"feedback": 1, "shop": 60}
    example = Example.objects.get(source=FEEDBACK)
    assert (example.external_id, example.category) == (str(prediction.pk), beauty)
    assert storages["datasets"].exists(example.photo)
    # The seller changes the answer: it waits for another review, and the example goes.
    record_feedback(prediction=prediction, category=pets)
    assert make_dataset().manifest["sources"] == {"shop": 60}
    review_feedback(ids=[feedback.pk], review=Review.ACCEPTED, reviewer=scientist)
    make_dataset()
    back = Example.objects.get(source=FEEDBACK)
    assert (back.category, back.split) == (pets, example.split)
    review_feedback(ids=[feedback.pk], review=Review.FLAGGED, reviewer=scientist)
    exclusions = make_dataset().manifest["exclusions"]
    assert exclusions == {"feedback_set_aside": 1}
    assert not Example.objects.filter(source=FEEDBACK).exists()


def test_the_command_says_what_it_made(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("make_dataset", source=["shop"])
    assert "shop (60)" in capsys.readouterr().out
    call_command("make_dataset", source=["shop"])
    assert "Nothing has changed" in capsys.readouterr().out


def accepted(prediction: Prediction, reviewer: User) -> Feedback:
    feedback = record_feedback(prediction=prediction, category=Category.objects.get(name="Beauty"))
    review_feedback(ids=[feedback.pk], review=Review.ACCEPTED, reviewer=reviewer)
    return feedback


def test_answers_become_examples_in_batches_and_other_sources_stay(
    seller: User,
    scientist: User,
    make_product: Callable[..., Product],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feedback_examples, "ROWS_AT_ONCE", 2)
    import_table(write_table(tmp_path / "shop", [("1", "Garden rake", "", "Beauty", "")]))
    answers = [accepted(make_product(seller, photo=number == 0).prediction, scientist) for number in range(5)]
    absorb_feedback()
    assert Example.objects.filter(source=FEEDBACK).count() == 5
    photo = Example.objects.get(external_id=str(answers[0].prediction_id)).photo
    review_feedback(ids=[answer.pk for answer in answers[2:]], review=Review.REJECTED, reviewer=scientist)
    assert absorb_feedback() == {"feedback_rejected": 3, "feedback_photo_gone": 0}
    left = Example.objects.filter(source=FEEDBACK)
    assert {example.external_id for example in left} == {str(answer.prediction_id) for answer in answers[:2]}
    assert photo and Example.objects.get(external_id=str(answers[0].prediction_id)).photo == photo
    assert Example.objects.filter(source="shop").exists()


def test_one_process_absorbs_feedback_at_a_time(
    committed_db: None, seller: User, scientist: User, make_product: Callable[..., Product]
) -> None:
    accepted(make_product(seller).prediction, scientist)

    def absorb() -> None:
        absorb_feedback()
        connection.close()

    other = threading.Thread(target=absorb)
    with hold_lock(Lock.TRAINING_DATA):
        other.start()
        await_waiting_for(Lock.TRAINING_DATA)
        assert not Example.objects.exists()
    other.join(20)
    assert Example.objects.get().source == FEEDBACK
    with try_lock(Lock.TRAINING_DATA) as is_free:
        assert is_free


def test_the_list_of_datasets_reads_no_description(shop: Path, client: Client, scientist: User) -> None:
    dataset = make_dataset()
    client.force_login(scientist)
    for description in (None, {}):
        Dataset.objects.update(description=description)
        page = client.get("/admin/training/dataset/")
        (listed,) = page.context["cl"].result_list
        assert listed == dataset and listed.get_deferred_fields() == {"description"}
        assert listed.has_description == (description is not None)


def test_a_suspect_with_a_strange_id_is_linked(shop: Path, client: Client, scientist: User) -> None:
    id = "a&source=x#1 +%"
    write_table(shop, [(id, "strange thing", "", "Beauty", "")])
    import_table(shop, source="odd")
    suspect = {"key": f"odd/{id}", "digest": "", "given": "beauty", "suggested": "beauty"}
    link = _suspect(suspect, {})["link"]
    client.force_login(scientist)
    assert "strange thing" in client.get(link).content.decode()
