"""The reference set: what it is sampled from, what is replayed, and what versions answer."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from classifier.evaluation.category_coverage import active_categories
from classifier.evaluation.reference_set import compare_on_reference, offer_hash
from classifier.models import Category, Modality, ModelVersion, Prediction, ReferenceAnswer, ReferenceProduct
from classifier.registry import traffic
from classifier.services import load_reference_products
from classifier.tasks import classify_pending
from portal.models import Product, User
from portal.products.services import submit_product
from tests.support.product_files import import_table, write_table
from tests.support.training_runs import import_folder, write_products
from training.acceptance import reference_answers, replay
from training.datasets import example_erasure, reference_set, snapshot_storage, snapshots, splits
from training.datasets.corpus import Corpus, write_corpus
from training.models import Example, Split

pytestmark = pytest.mark.django_db

Part, Origin = ReferenceProduct.Part, ReferenceProduct.Origin


THINGS = ["red", "blue", "old", "new", "small", "large", "cheap", "fine", "loud", "quiet"]


def predict(seller: User, *titles: str) -> None:
    for title in titles:
        submit_product(seller=seller, title=title)
    classify_pending()


def test_what_comes_with_aisle_has_twenty_titles_a_category_in_each_part() -> None:
    titles = ReferenceProduct.objects.filter(origin=Origin.STARTER).exclude(title="")
    for category in Category.objects.active():
        for part in Part:
            assert titles.filter(category=category, part=part).count() >= 20, (category, part)
    assert ReferenceProduct.objects.exclude(photo="").count() == 40
    before = set(ReferenceProduct.objects.values_list("pk", flat=True))
    load_reference_products()
    assert set(ReferenceProduct.objects.values_list("pk", flat=True)) == before


def test_held_back_examples_measure_and_training_examples_are_replayed(tmp_path: Path) -> None:
    import_folder(write_products(tmp_path / "shop", count=150, photos=30))
    reference_set.refresh_reference_set()
    own = ReferenceProduct.objects.filter(origin=Origin.EXAMPLE)
    for part, split in ((Part.MEASURE, Split.TEST), (Part.REPLAY, Split.TRAIN)):
        theirs = set(Example.objects.filter(split=split).values_list("external_id", flat=True))
        mine = set(own.filter(part=part).values_list("external_id", flat=True))
        assert mine
        assert mine <= theirs
    assert not own.filter(external_id__in=Example.objects.filter(split=Split.VALIDATION).values("external_id")).exists()


def test_the_sample_is_limited_stays_the_same_and_follows_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_set, "PER_CATEGORY", 5)
    folder = write_products(tmp_path / "shop", count=150)
    import_folder(folder)
    reference_set.refresh_reference_set()
    own = ReferenceProduct.objects.filter(origin=Origin.EXAMPLE)
    assert own.count() == 3 * 2 * 5
    before = set(own.values_list("pk", flat=True))
    reference_set.refresh_reference_set()
    assert set(own.values_list("pk", flat=True)) == before
    example = Example.objects.get(external_id=own[0].external_id)
    ReferenceAnswer.objects.create(
        version=ModelVersion.objects.get(modality="text"), product=own[0], first_choice="beauty", confidence=0.5
    )
    Example.objects.filter(pk=example.pk).update(description="Another one.")
    reference_set.refresh_reference_set()
    assert own[0].description == "Another one."
    assert not ReferenceAnswer.objects.filter(product=own[0]).exists()
    Example.objects.filter(pk=example.pk).delete()
    reference_set.refresh_reference_set()
    assert not own.filter(external_id=example.external_id).exists()


def test_own_products_take_the_place_of_the_starters_where_there_are_enough(tmp_path: Path) -> None:
    starters = ReferenceProduct.objects.counted(Modality.TEXT).filter(origin=Origin.STARTER)
    assert starters.filter(category__slug="beauty").count() == 20
    import_folder(write_products(tmp_path / "shop", count=450))
    reference_set.refresh_reference_set()
    assert not starters.filter(category__slug="beauty").exists()
    assert starters.filter(category__slug="automotive").count() == 20


def test_a_starter_product_that_a_training_example_repeats_measures_nothing(tmp_path: Path) -> None:
    products = ReferenceProduct.objects.counted(Modality.TEXT).filter(category__slug="beauty")
    repeated = [(str(n), product.title, "", "Beauty", "") for n, product in enumerate(products)]
    import_table(write_table(tmp_path / "shop", repeated))
    learnt = Example.objects.filter(split__in=[Split.TRAIN, Split.VALIDATION]).count()
    assert learnt
    left = [
        product
        for product in reference_answers.measuring_products(Modality.TEXT)
        if product.category == products[0].category
    ]
    assert len(left) == len(products) - learnt


def test_stored_products_measure_agreement_alone_and_are_deleted_with_their_prediction(seller: User) -> None:
    predict(seller, *(f"Violin bow {n}" for n in range(12)))
    reference_set.refresh_reference_set()
    stored = ReferenceProduct.objects.filter(origin=Origin.STORED)
    assert stored.count() == 12
    assert set(stored.values_list("category", flat=True)) == {None}
    Product.objects.all().delete()
    Prediction.objects.all().delete()
    assert not stored.exists()


def test_an_erased_sellers_products_leave_the_set(seller: User) -> None:
    product = ReferenceProduct.objects.create(
        origin=Origin.EXAMPLE, source="feedback", external_id="an-id", part=Part.MEASURE, title="Mine"
    )
    example_erasure.delete_examples_of_predictions(["an-id"])
    assert not ReferenceProduct.objects.filter(pk=product.pk).exists()


def test_replay_leaves_out_what_the_corpus_holds_and_what_is_held_back(tmp_path: Path, seller: User) -> None:
    import_folder(write_products(tmp_path / "shop", count=60))
    held_back = ReferenceProduct.objects.replay().filter(category__slug="beauty")[0]
    example = Example.objects.filter(split=Split.TEST).first()
    assert example
    Example.objects.filter(pk=example.pk).update(
        title=held_back.title, title_key=splits.title_key(splits.title_words(held_back.title))
    )
    predict(seller, *(f"acoustic guitar strings {n}" for n in range(8)))
    reference_set.refresh_reference_set()
    corpus: Corpus = snapshot_storage.fetch_corpus(snapshots.make_dataset())
    champion = traffic.current_champion(Modality.TEXT)
    assert champion
    rows = list(replay.replay_rows(champion, without=corpus))
    titles = [row.title for row in rows]
    assert held_back.title not in titles
    assert not set(titles) & set(corpus.split("train", columns=["title"])["title"])
    stored = [row for row in rows if row.title.startswith("acoustic guitar strings")]
    assert stored  # one in two is replayed, under the champion's own answer
    assert {row.label for row in stored} == {"musical-instruments"}
    learnt = {row.label for row in rows if row.split == "train"}
    assert {row.label for row in rows} == learnt
    assert any(row.split == "validation" for row in rows)


def test_two_versions_are_compared_on_what_both_answered() -> None:
    version = ModelVersion.objects.get(modality="text")
    other = ModelVersion.objects.create(modality="text", name="b", checksum="b" * 64, accuracy=0.5)
    assert compare_on_reference(version, other) is None
    products = list(ReferenceProduct.objects.counted(Modality.TEXT)[:6])
    for place, product in enumerate(products):
        for each, rank in ((version, 0), (other, place % 2)):
            if each == version or place < 4:
                ReferenceAnswer.objects.create(
                    version=each,
                    product=product,
                    first_choice="x",
                    confidence=0.9,
                    probability=0.5,
                    rank=rank,
                    offer=offer_hash(active_categories()),
                )
    found = compare_on_reference(version, other)
    assert found
    assert (found.n, found.accuracy.first, found.accuracy.second, found.lost) == (4, 1.0, 0.5, 2)
    Category.objects.filter(slug="automotive").update(is_active=False)  # what was chosen among others is void
    assert compare_on_reference(version, other) is None


def test_what_was_uploaded_twice_lies_in_one_part(seller: User) -> None:
    predict(seller, *(f"Maple violin bow {n}" for n in range(8)), *(f"drum {word} kit" for word in THINGS))
    reference_set.refresh_reference_set()
    stored = ReferenceProduct.objects.filter(origin=Origin.STORED)
    assert len(set(stored.filter(title__startswith="Maple").values_list("part", flat=True))) == 1
    assert len(set(stored.values_list("part", flat=True))) == 2


@pytest.mark.django_db(transaction=True)
def test_two_who_measure_a_version_at_once_leave_one_set_of_answers() -> None:
    version = ModelVersion.objects.get(modality="text")
    products = list(ReferenceProduct.objects.counted(Modality.TEXT)[:20])

    def keep(_number: int) -> None:
        try:
            reference_answers.store_answers(
                version, [ReferenceAnswer(product=p, first_choice="x", confidence=1.0, offer="o") for p in products]
            )
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(keep, range(12)))
    assert ReferenceAnswer.objects.filter(version=version).count() == 20


def test_the_photographs_that_come_with_aisle_are_replayed(tmp_path: Path) -> None:
    import_folder(write_products(tmp_path / "shop", count=60, photos=30))
    corpus = snapshot_storage.fetch_corpus(snapshots.make_dataset())
    eye = traffic.current_champion(Modality.IMAGE)
    assert eye
    rows = list(replay.replay_rows(eye, without=corpus))
    assert {row.label for row in rows} == {"grocery-gourmet-food"}
    manifest = write_corpus(rows, tmp_path / "replay", exclusions={}, least_labels=0)
    assert manifest["splits"]["train"]["with_photo"] > 10


def test_the_command_measures_what_is_deployed() -> None:
    out = io.StringIO()
    call_command("measure_versions", stdout=out)
    assert "of 360 reference products" in out.getvalue()
    assert "of 20 reference products" in out.getvalue()
    answer = ReferenceAnswer.objects.filter(version__modality="image")[0]
    assert answer.probability is not None
    assert 0 <= answer.probability <= answer.confidence <= 1
    assert (answer.rank == 0) == (answer.first_choice == "grocery-gourmet-food")
