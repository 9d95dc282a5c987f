"""Old predictions lose their heavy columns, and only when the archive has their content."""

import io
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from moto.server import ThreadedMotoServer

from classifier.archive import slimming, writer
from classifier.models import Prediction
from classifier.tasks import archive_pending
from common import object_storage
from portal.models import Product, User


def age(*predictions: Prediction, days: int = 200) -> None:
    ids = [prediction.pk for prediction in predictions]
    Prediction.objects.filter(pk__in=ids).update(created_at=timezone.now() - timedelta(days=days))


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("archive_history", "--older-than", "6", *arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


@pytest.fixture
def old(seller: User, make_product: Callable[..., Product]) -> Product:
    product = make_product(seller, photo=True)
    archive_pending()
    age(product.prediction)
    return product


def test_vectors_and_probabilities_move_and_the_pages_link_to_them(old: Product, browser: Client) -> None:
    before = Prediction.objects.get(pk=old.prediction_id)
    assert "1 predictions" in run("--dry-run")
    assert "Moved 1 " in run()
    after = Prediction.objects.get(pk=old.prediction_id)
    assert after.text_embedding is after.image_embedding is after.text_probabilities is None
    assert after.probabilities == {} and after.top5 == before.top5 and after.text_version == before.text_version

    stored = storages["archive"]
    vectors = json.load(stored.open(writer.archive_path(old.prediction_id, slimming.VECTORS_FILE)))
    assert vectors["text"] == list(before.text_embedding)
    assert vectors["image"] == list(before.image_embedding)
    assert json.load(stored.open(writer.archive_path(old.prediction_id, "ensemble.json")))["probabilities"] == (
        before.probabilities
    )
    page = browser.get(reverse("product", args=[old.pk])).content.decode()
    assert "moved to the archive" in page and before.best["category"] in page
    answer = browser.get(f"/api/v1/predictions/{old.prediction_id}").json()
    assert answer["state"] == "done" and answer["text"] is None and len(answer["top5"]) == 5
    assert "Moved 0 " in run()


def test_recent_unfinished_and_unarchived_predictions_stay(seller: User, make_product: Callable[..., Product]) -> None:
    young, unarchived, waiting = (make_product(seller, answered=answered) for answered in (True, True, False))
    archive_pending()
    age(waiting.prediction, unarchived.prediction)
    Prediction.objects.filter(pk=unarchived.prediction_id).update(archived_at=None)
    assert "Moved 0 " in run()
    assert Prediction.objects.get(pk=young.prediction_id).probabilities


def test_a_row_whose_archive_is_missing_stays(old: Product) -> None:
    storages["archive"].delete(writer.archive_path(old.prediction_id, slimming.LAST_FILE))
    output = run()
    assert "Moved 0 " in output and "Left 1 unchanged" in output
    assert Prediction.objects.get(pk=old.prediction_id).probabilities


def test_a_run_that_an_outage_stopped_continues_later(
    seller: User, bucket: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch, make_product: Callable[..., Product]
) -> None:
    monkeypatch.setattr(slimming, "BATCH", 2)
    products = [make_product(seller) for _ in range(5)]
    archive_pending()
    for number, product in enumerate(products):
        age(product.prediction, days=300 - number)
    keep, calls = slimming._archive_vectors, []

    def fail_after_two(prediction: Prediction) -> bool:
        calls.append(prediction.pk)
        if len(calls) > 2:
            raise object_storage.StorageDown("stopped")
        return keep(prediction)

    monkeypatch.setattr(slimming, "_archive_vectors", fail_after_two)
    with pytest.raises(CommandError, match="run it again"):
        run()
    assert Prediction.objects.filter(probabilities={}).count() == 2
    monkeypatch.setattr(slimming, "_archive_vectors", keep)
    assert "Moved 3 " in run()
