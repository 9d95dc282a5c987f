"""Erased rows are removed from snapshots: tests/portal/privacy/test_erasing.py follows a whole erasure."""

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from classifier.models import Category, Modality
from feedback.models import Erasure, ErasureBatch
from tests.support.product_files import plain_jpeg
from training.datasets.corpus import CorpusError
from training.datasets.examples import IncomingExample, store_examples
from training.datasets.feedback_examples import absorb_feedback
from training.datasets.importing import store_photo
from training.datasets.snapshot_erasure import remove_erased_rows
from training.datasets.snapshot_storage import fetch_corpus
from training.datasets.snapshots import find_or_make_dataset
from training.models import FEEDBACK, Dataset, Example, TrainingRun

pytestmark = pytest.mark.django_db
WORDS = (
    "guitar",
    "piano",
    "violin",
    "drum",
    "flute",
    "harp",
    "lipstick",
    "mascara",
    "perfume",
    "soap",
    "cream",
    "comb",
)


@pytest.fixture
def answers(settings: Any, tmp_path: Any) -> list[uuid.UUID]:
    """Examples as accepted answers make them, in two categories; return their predictions."""
    settings.DATASET_CACHE = tmp_path
    slugs = ("musical-instruments", "beauty")
    ids = [uuid.uuid4() for _word in WORDS]
    rows = []
    for number, (pk, word) in enumerate(zip(ids, WORDS, strict=True)):
        photo, digest = store_photo(plain_jpeg((9 * number, 40, 90)))
        category = Category.objects.get(slug=slugs[number // 6]).pk
        rows.append(IncomingExample(str(pk), f"{word} {word * 2} {word * 3}", "", category, photo, digest, digest))
    store_examples(source=FEEDBACK, rows=rows)
    return ids


@pytest.fixture
def dataset(answers: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr("training.datasets.snapshots.absorb_feedback_locked", Counter)  # the answers' rows aren't there
    return find_or_make_dataset()[0]


def erased(ids: Sequence[uuid.UUID]) -> ErasureBatch:
    erasure = Erasure.objects.create(
        account=1, joined_at=timezone.now(), via=Erasure.Via.COMMAND, due_at=timezone.now()
    )
    return ErasureBatch.objects.create(
        erasure=erasure, number=1, predictions=list(ids), photos=[], done_at=timezone.now()
    )


def files(dataset: Dataset) -> list[str]:
    try:
        return sorted(storages["datasets"].listdir(dataset.path)[1])
    except FileNotFoundError:
        return []


def test_a_snapshot_without_the_erased_is_left_alone(dataset: Dataset) -> None:
    before = dataset.checksum
    erased([uuid.uuid4()])
    assert remove_erased_rows() == 1
    dataset.refresh_from_db()
    assert dataset.checksum == before and files(dataset)
    assert remove_erased_rows() == 0


def test_a_cut_snapshot_is_whole_and_its_description_goes(dataset: Dataset, answers: list[uuid.UUID]) -> None:
    Dataset.objects.update(description={"quotes": "guitar"})
    old = Dataset(checksum=dataset.checksum)
    gone = Example.objects.get(external_id=str(answers[0]))
    erased(answers[:1])
    remove_erased_rows()
    dataset.refresh_from_db()
    corpus = fetch_corpus(dataset)
    read = {row["id"] for split in ("train", "validation", "test") for row in corpus.stream(split, columns=["id"])}
    assert str(answers[0]) not in read and read <= {str(pk) for pk in answers[1:]}
    assert sum(corpus.count(split) for split in ("train", "validation", "test")) == len(read)
    assert dataset.description is None and files(old) == []
    assert not Example.objects.filter(pk=gone.pk).exists() and not storages["datasets"].exists(gone.photo)


def test_a_snapshot_of_which_too_little_is_left_is_withdrawn(dataset: Dataset, answers: list[uuid.UUID]) -> None:
    erased(answers[:6])  # one of the two categories
    remove_erased_rows()
    old = dataset.path
    dataset.refresh_from_db()
    assert dataset.manifest["shards"] == [] and dataset.manifest["exclusions"]["erased"] >= 1
    assert old != dataset.path and files(dataset) == []
    with pytest.raises(CorpusError, match="Nothing is left"):
        fetch_corpus(dataset)


def test_a_snapshot_waits_for_the_run_that_works_on_it(dataset: Dataset, answers: list[uuid.UUID]) -> None:
    before = dataset.checksum
    run = TrainingRun.objects.create(modality=Modality.TEXT, dataset=dataset, recipe={})
    batch = erased(answers[:1])
    assert remove_erased_rows() == 0
    dataset.refresh_from_db()
    assert dataset.checksum == before and not Example.objects.filter(external_id=str(answers[0])).exists()
    TrainingRun.objects.filter(pk=run.pk).update(state=TrainingRun.State.CANCELLED)
    assert remove_erased_rows() == 1
    batch.refresh_from_db()
    assert batch.forgotten_at


def test_a_photo_that_another_example_uses_stays(dataset: Dataset, answers: list[uuid.UUID]) -> None:
    twin, other = (Example.objects.get(external_id=str(pk)) for pk in answers[:2])
    Example.objects.filter(pk=other.pk).update(photo=twin.photo, photo_digest=twin.photo_digest)
    erased(answers[:1])
    remove_erased_rows()
    assert storages["datasets"].exists(twin.photo)


def test_making_a_dataset_drops_the_erased_with_their_photos(answers: list[uuid.UUID]) -> None:
    """Their answers are gone, so that they would be dropped anyway; their photos would not."""
    gone = Example.objects.get(external_id=str(answers[0]))
    erased(answers[:1])
    absorb_feedback()
    assert not storages["datasets"].exists(gone.photo) and not Example.objects.exists()
