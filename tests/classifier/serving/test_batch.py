import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from botocore.config import Config
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command

from classifier.models import Category, EnsembleRule, ModelVersion, Prediction, Variant
from classifier.registry import model_cache, traffic
from classifier.serving.batch import classify_claimed
from classifier.tasks import classify_pending, wake_workers
from portal.models import Product, User
from tests.support.photos import product_photo
from tests.support.predictions import expire_leases, queue_predictions

State = Prediction.State
MakeProduct = Callable[..., Product]
QUICK = Config(connect_timeout=1, retries={"total_max_attempts": 1})


def test_text_and_photo_are_combined_by_the_registered_accuracies(seller: User, make_product: MakeProduct) -> None:
    temperature = 0.6
    EnsembleRule.objects.update(kind="accuracy-weighted", parameters={"temperature": temperature})
    prediction = make_product(seller, photo=True).prediction
    versions = {version.modality: version for version in ModelVersion.objects.all()}
    weights = {modality: version.accuracy for modality, version in versions.items()}
    assert prediction.ensemble == {
        "rule": "accuracy-weighted",
        **weights,
        "temperature": temperature,
        "calibrated": True,
    }
    assert (prediction.text_version, prediction.image_version) == (versions["text"], versions["image"])
    views = {"text": prediction.text_probabilities, "image": prediction.image_probabilities}
    sharpened = {
        slug: sum(weights[modality] * views[modality][slug] for modality in views) ** (1 / temperature)
        for slug in prediction.probabilities
    }
    for slug, probability in prediction.probabilities.items():
        assert probability == pytest.approx(sharpened[slug] / sum(sharpened.values()), abs=1e-4)


def test_a_fitted_log_pool_is_used_and_recorded(seller: User, make_product: MakeProduct) -> None:
    EnsembleRule.objects.update(kind="log-pool", parameters={"text": 1.2, "image": 0.4})
    prediction = make_product(seller, photo=True).prediction
    assert prediction.ensemble == {
        "rule": "log-pool", "text": 1.2, "image": 0.4, "temperature": 1.0, "calibrated": True,
    }  # fmt: skip
    pooled = {
        slug: prediction.text_probabilities[slug] ** 1.2 * prediction.image_probabilities[slug] ** 0.4
        for slug in prediction.probabilities
    }
    best = prediction.best["slug"]
    assert prediction.probabilities[best] == pytest.approx(pooled[best] / sum(pooled.values()), abs=1e-2)


def test_a_pair_without_a_rule_uses_the_plain_mean_and_is_marked_uncalibrated(
    seller: User, make_product: MakeProduct
) -> None:
    EnsembleRule.objects.all().delete()
    both = make_product(seller, photo=True).prediction
    assert both.ensemble["rule"] == "accuracy-weighted"
    assert both.ensemble["temperature"] == 1.0
    assert not both.is_calibrated
    assert make_product(seller).prediction.is_calibrated


def test_a_rule_with_unusable_parameters_is_ignored(seller: User, make_product: MakeProduct) -> None:
    EnsembleRule.objects.update(kind="log-pool", parameters={"text": "much"})
    assert not make_product(seller, photo=True).prediction.is_calibrated


def test_everything_is_stored_for_every_category(seller: User, make_product: MakeProduct) -> None:
    prediction = make_product(seller, photo=True).prediction
    slugs = set(Category.objects.values_list("slug", flat=True))
    for probabilities in (prediction.text_probabilities, prediction.image_probabilities, prediction.probabilities):
        assert set(probabilities) == slugs
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert len(prediction.top5) == 5
    assert [row["probability"] for row in prediction.top5] == sorted(
        (row["probability"] for row in prediction.top5), reverse=True
    )
    assert len(prediction.text_embedding) == 384
    assert len(prediction.image_embedding) == 1280
    assert prediction.milliseconds > 0


def test_a_guitar_gets_its_category(seller: User, make_product: MakeProduct) -> None:
    assert make_product(seller).prediction.top5[0]["slug"] == "musical-instruments"


def test_a_product_without_a_photo_gets_no_image_output(seller: User, make_product: MakeProduct) -> None:
    by_title = make_product(seller).prediction
    assert by_title.image_version is None and by_title.image_probabilities is None
    assert by_title.probabilities == pytest.approx(by_title.text_probabilities, abs=1e-5)
    by_photo = make_product(seller, title="", photo=True).prediction
    assert by_photo.text_version is None and by_photo.text_probabilities is None
    assert by_photo.probabilities == pytest.approx(by_photo.image_probabilities, abs=1e-5)


def test_a_poison_row_fails_alone_with_a_message_for_the_seller(seller: User) -> None:
    default_storage.save("po/poison-small.jpg", ContentFile(b"no picture at all"))
    default_storage.save("po/fine-small.jpg", ContentFile(product_photo(size=(256, 256))))
    (poison,) = queue_predictions(seller, 1, photo_small="po/poison-small.jpg")
    fine = queue_predictions(seller, 3, photo_small="po/fine-small.jpg")
    classify_pending()
    poison.refresh_from_db()
    assert poison.state == State.FAILED
    assert poison.error == "We couldn't read this photo. Please take or choose another one."
    assert {row.state for row in Prediction.objects.filter(pk__in=[p.pk for p in fine])} == {State.DONE}


def test_a_failing_row_is_tried_again_with_growing_pauses_then_failed(seller: User) -> None:
    (row,) = queue_predictions(seller, 1, photo_small="not/there-yet.jpg")
    pauses = []
    for _attempt in range(3):
        classify_pending()
        row.refresh_from_db()
        assert row.state == State.QUEUED
        pauses.append(row.available_at)
        expire_leases(row)
    default_storage.save("not/there-yet.jpg", ContentFile(product_photo(size=(256, 256))))
    classify_pending()
    row.refresh_from_db()
    assert row.state == State.DONE

    (hopeless,) = queue_predictions(seller, 1, photo_small="never/there.jpg")
    for _attempt in range(4):
        classify_pending()
        expire_leases(hopeless)
    hopeless.refresh_from_db()
    assert hopeless.state == State.FAILED
    assert "try again" in hopeless.error


def test_a_row_that_killed_all_its_workers_fails(seller: User, settings: object) -> None:
    (row,) = queue_predictions(seller)
    Prediction.objects.filter(pk=row.pk).update(attempts=settings.MAX_ATTEMPTS)  # type: ignore[attr-defined]
    classify_pending()
    row.refresh_from_db()
    assert row.state == State.FAILED
    assert row.error


def test_work_that_was_taken_over_is_not_stored_twice(seller: User) -> None:
    queue_predictions(seller)
    (late,) = Prediction.objects.claim(limit=1)
    expire_leases(late)
    classify_pending()
    done = Prediction.objects.get(pk=late.pk)
    classify_claimed([late])
    late.refresh_from_db()
    assert late.finished_at == done.finished_at


def test_a_category_that_no_model_has_gets_probability_0(seller: User, make_product: MakeProduct) -> None:
    Category.objects.create(slug="books", name="Books")
    assert make_product(seller, photo=True).prediction.probabilities["books"] == 0


def queued_tasks() -> int:
    return int(redis.Redis.from_url(settings.REDIS_URL).llen("predict"))  # type: ignore[arg-type]


def test_beat_queues_the_task_only_when_a_row_is_due(seller: User) -> None:
    before = queued_tasks()
    wake_workers()
    assert queued_tasks() == before
    queue_predictions(seller)
    wake_workers()
    assert queued_tasks() == before + 1


@pytest.fixture
def storage_is_down(settings: Any) -> Iterator[None]:
    """All storages on an S3 server that refuses connections."""
    options = {"bucket_name": "aisle", "endpoint_url": "http://127.0.0.1:9", "client_config": QUICK}
    away = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    working = settings.STORAGES
    settings.STORAGES = {**working, "default": away, "models": away, "archive": away}
    yield
    settings.STORAGES = working


def test_a_storage_outage_counts_as_no_attempt_and_delays_only_photos(seller: User, storage_is_down: None) -> None:
    photos = queue_predictions(seller, 3, photo_small="a/photo.jpg")
    (text,) = queue_predictions(seller)
    for _round in range(6):
        classify_pending()
        expire_leases(*photos)
    text.refresh_from_db()
    assert text.state == State.DONE
    for photo in Prediction.objects.filter(pk__in=[p.pk for p in photos]):
        assert (photo.state, photo.attempts) == (State.QUEUED, 0)


def test_models_that_cannot_be_loaded_count_as_no_attempt(
    seller: User, storage_is_down: None, settings: Any, tmp_path: Path
) -> None:
    settings.MODEL_CACHE = tmp_path
    model_cache.unload_all()
    (row,) = queue_predictions(seller)
    for _round in range(6):
        classify_pending()
        expire_leases(row)
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.QUEUED, 0)
    model_cache.load_live_models()


def test_nothing_deployed_counts_as_no_attempt(seller: User) -> None:
    Variant.objects.all().delete()
    (row,) = queue_predictions(seller)
    classify_pending()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.QUEUED, 0)


def test_a_category_that_is_switched_off_is_not_suggested(seller: User, make_product: MakeProduct) -> None:
    Category.objects.filter(slug="musical-instruments").update(is_active=False)
    prediction = make_product(seller).prediction
    assert "musical-instruments" not in [row["slug"] for row in prediction.top5]
    assert "musical-instruments" in prediction.probabilities


def test_traffic_is_split_by_weight_and_stays_with_the_product(db: None) -> None:
    first, second = ModelVersion(name="a", checksum="a"), ModelVersion(name="b", checksum="b")
    variants = [Variant(version=first, weight=80), Variant(version=second, weight=20)]
    keys = [uuid.uuid4() for _ in range(5000)]
    chosen = [traffic.choose_variant(variants, key) for key in keys]
    assert 0.77 < chosen.count(first) / len(keys) < 0.83
    assert chosen == [traffic.choose_variant(variants, key) for key in keys]
    with pytest.raises(traffic.NothingDeployed):
        traffic.choose_variant([], keys[0])


def test_the_command_line_gives_the_same_answer_as_the_portal(
    seller: User, make_product: MakeProduct, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    prediction = make_product(seller, title="Yamaha acoustic guitar with case", photo=True).prediction
    photo = tmp_path / "mug.jpg"
    photo.write_bytes(product_photo())
    call_command("classify", "--title", "Yamaha acoustic guitar with case", "--image", str(photo), "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"]["probabilities"] == pytest.approx(prediction.text_probabilities, abs=1e-4)
    assert answer["image"]["probabilities"] == pytest.approx(prediction.image_probabilities, abs=1e-4)
    assert [row["slug"] for row in answer["top5"]] == [row["slug"] for row in prediction.top5]
    assert set(answer["top5"][0]) == {"category", "slug", "probability"}
    assert answer["text"]["version"].startswith("starter")
    assert answer["milliseconds"] > 0


def test_the_command_line_reports_what_is_missing(db: None) -> None:
    with pytest.raises(CommandError, match="--title"):
        call_command("classify")
    with pytest.raises(CommandError, match="no file"):
        call_command("classify", "--image", "nowhere.jpg")
    with pytest.raises(CommandError, match="not a readable"):
        call_command("classify", "--image", __file__)
    Variant.objects.all().delete()
    with pytest.raises(CommandError, match="No model can be loaded"):
        call_command("classify", "--title", "Mug")
