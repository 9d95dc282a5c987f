from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from botocore.config import Config
from django.core.files.storage import storages
from django.db.models.functions import Now
from django.utils import timezone
from moto.server import ThreadedMotoServer

from classifier.archive import writer
from classifier.models import Category, Deployment, ModelVersion, Prediction, Variant
from classifier.models.archivable import archive_due_rows
from classifier.services import register_starters
from classifier.tasks import classify_pending
from feedback.services import record_feedback
from feedback.tasks import archive_feedback
from portal.models import Product, User
from tests.support.archive import archive_prediction, read_archived

MakeProduct = Callable[..., Product]
QUICK = Config(connect_timeout=1, retries={"max_attempts": 1})


def test_every_input_and_both_models_outputs_are_archived(seller: User, make_product: MakeProduct) -> None:
    prediction = archive_prediction(make_product(seller, photo=True))
    assert prediction.archived_at
    assert read_archived(prediction, "input.json")["title"] == prediction.title
    assert storages["archive"].open(writer.archive_path(prediction.pk, "image.jpg")).read(3) == b"\xff\xd8\xff"
    for name, probabilities in (
        ("text.json", prediction.text_probabilities),
        ("image.json", prediction.image_probabilities),
    ):
        view = read_archived(prediction, name)
        assert str(view["version"]).startswith("starter")
        assert view["probabilities"] == probabilities
        assert len(probabilities) == 18
    assert read_archived(prediction, "ensemble.json")["top5"] == prediction.top5


def test_the_answer_is_archived_and_a_change_keeps_the_first_one(seller: User, make_product: MakeProduct) -> None:
    prediction = make_product(seller).prediction
    record_feedback(prediction=prediction, category=Category.objects.get(slug="musical-instruments"))
    archive_feedback()
    assert read_archived(prediction, "feedback.json")["category"] == "musical-instruments"
    record_feedback(prediction=prediction, category=None, wish="Guitars")
    archive_feedback()
    kept = read_archived(prediction, "feedback.json")
    assert (kept["verdict"], kept["wish"]) == ("none", "Guitars")
    assert [answer["category"] for answer in kept["earlier"]] == ["musical-instruments"]  # type: ignore[attr-defined]


def test_archiving_works_over_the_s3_protocol(bucket: object, seller: User, make_product: MakeProduct) -> None:
    Deployment.objects.all().delete()
    Variant.objects.all().delete()
    ModelVersion.objects.all().delete()
    register_starters()
    prediction = archive_prediction(make_product(seller, photo=True))
    assert read_archived(prediction, "text.json")["probabilities"] == prediction.text_probabilities


def test_a_storage_outage_delays_the_archive_and_nothing_else(
    bucket: ThreadedMotoServer, settings: object, seller: User, make_product: MakeProduct
) -> None:
    working = settings.STORAGES  # type: ignore[attr-defined]
    broken = {**working["archive"]["OPTIONS"], "endpoint_url": "http://127.0.0.1:9", "client_config": QUICK}
    Deployment.objects.all().delete()
    Variant.objects.all().delete()
    ModelVersion.objects.all().delete()
    register_starters()
    settings.STORAGES = {**working, "archive": {**working["archive"], "OPTIONS": broken}}  # type: ignore[attr-defined]
    product = make_product(seller, photo=True)
    assert archive_prediction(product).archived_at is None
    assert archive_prediction(product).state == Prediction.State.DONE
    settings.STORAGES = working  # type: ignore[attr-defined]
    Prediction.objects.update(archive_due_at=timezone.now() - timedelta(seconds=1))
    assert archive_prediction(product).archived_at


def test_a_lost_photo_does_not_prevent_archiving_the_rest(seller: User, make_product: MakeProduct) -> None:
    bad, *good = [make_product(seller, title=f"Guitar {i}", answered=False) for i in range(4)]
    classify_pending()
    Prediction.objects.filter(pk=bad.prediction_id).update(photo_small="gone.jpg")
    assert archive_prediction(bad).archived_at
    assert read_archived(bad.prediction, "ensemble.json")
    assert not storages["archive"].exists(writer.archive_path(bad.prediction_id, "image.jpg"))
    assert all(archive_prediction(product).archived_at for product in good)


def test_a_row_that_changed_while_its_batch_was_written_is_written_again(
    seller: User, make_product: MakeProduct
) -> None:
    ids = [make_product(seller, title=f"Guitar {i}").prediction_id for i in range(3)]
    rows = Prediction.objects.filter(pk__in=ids)
    rows.update(archived_at=None, archive_due_at=Now())
    written: list[UUID] = []

    def write(row: Prediction) -> None:
        if not written:
            rows.filter(pk=row.pk).update(archived_at=None, archive_due_at=Now())
        written.append(row.pk)

    archive_due_rows(rows, write)
    assert sorted(written) == sorted([*ids, written[0]])
    assert not rows.filter(archived_at=None).exists()


def test_marking_takes_one_statement_for_any_number_of_rows(
    seller: User, make_product: MakeProduct, django_assert_num_queries: Any
) -> None:
    ids = [make_product(seller, title=f"Guitar {i}").prediction_id for i in range(5)]
    rows = Prediction.objects.filter(pk__in=ids)
    for few in (ids[:1], ids):
        rows.filter(pk__in=few).update(archived_at=None, archive_due_at=Now())
        with django_assert_num_queries(9):  # claiming (5), the mark, and a claim that finds nothing (3)
            archive_due_rows(rows, lambda row: None)
