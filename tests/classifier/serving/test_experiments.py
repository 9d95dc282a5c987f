"""Experiments and shadows over real predictions: which version answers, and which one is stopped."""

import json
import shutil
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core import mail
from django.core.files.storage import storages
from django.db.models import F
from django.utils import timezone
from safetensors.numpy import load_file, save_file

from classifier.archive import retention
from classifier.ml import artifact
from classifier.models import Deployment, Fault, ModelVersion, Prediction, ShadowAnswer, Variant
from classifier.registry import deployments, rollout_guard, rollout_statistics, traffic, variants, versions
from classifier.services import STARTER
from classifier.serving.batch import classify_claimed
from classifier.tasks import archive_pending, classify_pending, delete_old_records, guard_versions
from portal.models import Product, User
from tests.support.model_versions import register_variant
from tests.support.predictions import queue_predictions

MakeProduct = Callable[..., Product]
State = Prediction.State


def broken(folder: Path, modality: str = "text") -> ModelVersion:
    """Register a version that loads and then answers with numbers that are none."""
    shutil.copytree(STARTER / modality, folder)
    weights = load_file(folder / "model.safetensors")
    bias = max(name for name in weights if name.startswith("head.") and name.endswith(".bias"))
    weights[bias] = np.full_like(weights[bias], np.nan)
    save_file(weights, folder / "model.safetensors")
    artifact.seal_artifact(folder)
    return versions.register_version(folder, name=folder.name)


def answered(rows: list[Prediction]) -> set[str]:
    """Return the text versions that answered the rows, all of which are done."""
    fresh = Prediction.objects.filter(pk__in=[row.pk for row in rows]).select_related("text_version")
    assert {row.state for row in fresh} == {State.DONE}
    return {row.text_version.name for row in fresh if row.text_version}


def make_them_alone(rows: list[Prediction], version: ModelVersion) -> list[Prediction]:
    """Give the rows keys for which the version is chosen."""
    live = traffic.live_variants_by_modality()[version.modality]
    for row in rows:
        while traffic.choose_variant(live, row.variant_key or row.pk) != version:
            row.variant_key = uuid.uuid4()
    Prediction.objects.bulk_update(rows, ["variant_key"])
    return rows


def test_each_live_version_answers_its_share_and_records_the_pass(seller: User, tmp_path: Path) -> None:
    variants.start_test(register_variant(tmp_path / "b", "b"), weight=50)
    rows = queue_predictions(seller, 24)
    classify_pending()
    assert len(answered(rows)) == 2
    how = [row.passes["text"] for row in Prediction.objects.all()]
    assert sum(1 / each["rows"] for each in how) == pytest.approx(2)  # two passes over all rows
    assert all(each["engine"] and each["ms"] > 0 for each in how)
    archive_pending()
    with storages["archive"].open(f"{str(rows[0].pk)[:2]}/{rows[0].pk}/text.json") as file:
        assert {"engine", "milliseconds"} <= set(json.load(file))


def test_the_fallback_answers_for_a_version_under_test_that_raises(seller: User, tmp_path: Path) -> None:
    bad = broken(tmp_path / "bad")
    champion = traffic.current_champion("text")
    variants.start_test(bad, weight=50)
    rows = make_them_alone(queue_predictions(seller, 3), bad) + queue_predictions(seller, 3)
    classify_pending()
    assert answered(rows) == {champion.name}  # type: ignore[union-attr]
    assert set(Prediction.objects.values_list("attempts", flat=True)) == {1}
    assert Fault.objects.filter(version=bad).get().rows >= 3
    assert not Fault.objects.exclude(version=bad).exists()


def test_the_fallback_answers_for_a_version_under_test_that_cannot_be_loaded(seller: User, tmp_path: Path) -> None:
    misfit = register_variant(tmp_path / "misfit", "Misfit", config={"hidden": 7})
    champion = traffic.current_champion("text")
    variants.start_test(misfit, weight=50)
    rows = make_them_alone(queue_predictions(seller, 4), misfit)
    classify_pending()
    assert answered(rows) == {champion.name}  # type: ignore[union-attr]
    fault = Fault.objects.get()
    assert (fault.version, fault.rows) == (misfit, 4)
    assert "could not be loaded" in fault.error


def test_a_champion_that_raises_is_recorded_and_the_row_tried_again(seller: User, tmp_path: Path) -> None:
    bad = broken(tmp_path / "bad")
    deployments.deploy_version(bad)
    (row,) = queue_predictions(seller)
    classify_pending()
    row.refresh_from_db()
    assert (row.state, row.attempts) == (State.QUEUED, 1)
    assert Fault.objects.get().version == bad


def test_a_shadow_answers_sellers_products_and_sellers_never_see_it(
    seller: User, make_product: MakeProduct, tmp_path: Path
) -> None:
    live = traffic.current_champion("text")
    text = register_variant(tmp_path / "cool", "cool", config={"temperature": 0.7})
    image = register_variant(tmp_path / "eye", "eye", modality="image")
    variants.start_shadow(text)
    variants.start_shadow(image)
    prediction = make_product(seller, photo=True).prediction
    assert prediction.text_version == live
    rows = {row.version: row for row in ShadowAnswer.objects.filter(prediction=prediction)}
    assert set(rows) == {text, image}
    said = rows[text]
    assert said.best == "musical-instruments" and said.agrees and said.error == ""
    assert said.probabilities[said.best] > prediction.text_probabilities[said.best]  # it is cooler, so surer
    assert said.milliseconds and said.engine
    by_title = make_product(seller).prediction
    assert ShadowAnswer.objects.get(prediction=by_title).version == text


def test_a_shadow_does_not_run_while_products_wait(seller: User, tmp_path: Path, settings: Any) -> None:
    settings.BATCH_SIZE = 2
    variants.start_shadow(register_variant(tmp_path / "b", "b"))
    batch = Prediction.objects.filter(pk__in=[row.pk for row in queue_predictions(seller, 4)]).claim(limit=2)
    classify_claimed(batch)
    assert not ShadowAnswer.objects.exists()
    rest = Prediction.objects.claim(limit=2)
    classify_claimed(rest)
    assert {row.prediction_id for row in ShadowAnswer.objects.all()} == {row.pk for row in rest}


def test_old_shadow_answers_and_failures_are_deleted_and_recent_ones_kept(
    seller: User, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    settings.TRIAL_DAYS = 30
    version, moment = register_variant(tmp_path / "b", "b"), timezone.now()
    ages = [timedelta(days=days) for days in (40, 35, 31, 29, 0)]
    for age, row in zip(ages, queue_predictions(seller, 5), strict=True):
        ShadowAnswer.objects.create(prediction=row, version=version, best="toys-games", created_at=moment - age)
        Fault.objects.create(version=version, rows=1, error="NaN", created_at=moment - age)
    delete_old_records()
    for rows in (ShadowAnswer.objects, Fault.objects):
        assert sorted(moment - row.created_at for row in rows.all()) == sorted(ages[3:])  # type: ignore[attr-defined]
    assert Prediction.objects.count() == 5


@pytest.mark.parametrize("fault", ["raises", "cannot be loaded"])
def test_a_failing_shadow_affects_no_result(seller: User, tmp_path: Path, fault: str) -> None:
    bad = (
        broken(tmp_path / "bad")
        if fault == "raises"
        else register_variant(tmp_path / "bad", "Misfit", config={"hidden": 7})
    )
    variants.start_shadow(bad)
    rows = queue_predictions(seller, 2)
    classify_pending()
    assert len(answered(rows)) == 1
    assert [bool(row.error) and not row.best for row in ShadowAnswer.objects.filter(version=bad)] == [True, True]
    assert not Fault.objects.exists()


def test_the_guard_stops_a_failing_version_and_mails_staff_who_may_deploy(
    seller: User, scientist: User, administrator: User, tmp_path: Path, settings: Any
) -> None:
    settings.CANARY_LEAST_PREDICTIONS = 5
    bad, champion = broken(tmp_path / "bad"), traffic.current_champion("text")
    variants.start_test(bad, weight=20)
    make_them_alone(queue_predictions(seller, 6), bad)
    classify_pending()
    guard_versions()
    assert [variant.version for variant in traffic.live_variants("text")] == [champion]
    assert traffic.live_variants("text")[0].weight == 100
    stopped = Deployment.objects.first()
    assert stopped is not None
    assert (stopped.kind, stopped.version, stopped.deployed_by) == ("stop", bad, None)
    assert "6 of 6 rows failed" in stopped.note
    assert {address for message in mail.outbox for address in message.to} == {scientist.email, administrator.email}
    assert "stopped text bad" in mail.outbox[0].subject
    guard_versions()
    assert len(mail.outbox) == 2


def test_the_guard_stops_a_version_that_is_slow(seller: User, tmp_path: Path, settings: Any) -> None:
    settings.CANARY_LEAST_PREDICTIONS = 5
    slow, champion = register_variant(tmp_path / "slow", "slow"), traffic.current_champion("text")
    assert champion is not None
    variants.start_test(slow, weight=50)
    for version, milliseconds in ((champion, 20.0), (slow, 90.0)):
        for row in queue_predictions(seller, 6):
            Prediction.objects.filter(pk=row.pk).update(
                state=State.DONE,
                probabilities={},
                top5=[],
                text_version=version,
                finished_at=timezone.now(),
                passes={"text": {"engine": "torch fp32", "ms": milliseconds, "rows": 1}},
            )
    known = rollout_guard.load_records("text", [champion, slow], timezone.now() - timedelta(minutes=5))
    assert known[slow.pk] == rollout_statistics.Record(6, 0, {0: (90.0, 6)})
    assert rollout_guard.stop_failing_versions() == [slow]
    assert "4.5 times as slow" in Deployment.objects.first().note  # type: ignore[union-attr]


def test_the_guard_rolls_back_a_recent_deployment_and_leaves_older_ones(
    seller: User, tmp_path: Path, settings: Any
) -> None:
    settings.CANARY_LEAST_PREDICTIONS = 5
    champion = traffic.current_champion("text")
    assert rollout_guard.stop_failing_versions() == []
    misfit = register_variant(tmp_path / "misfit", "Misfit", config={"hidden": 7})
    deployments.deploy_version(misfit)
    queue_predictions(seller, 6)
    classify_pending()
    Variant.objects.update(deployed_at=F("deployed_at") - timedelta(hours=2))
    assert rollout_guard.stop_failing_versions() == []  # it is new no more: people decide
    Variant.objects.update(deployed_at=F("deployed_at") + timedelta(hours=2))
    assert rollout_guard.stop_failing_versions() == [misfit]
    assert traffic.current_champion("text") == champion


@pytest.mark.parametrize("count", [2, 32])
def test_a_batch_takes_the_same_few_queries_however_many_rows(
    seller: User, django_assert_num_queries: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("classifier.tasks.LONGEST_TURN", 3600.0)  # however slow the machine is
    variants.start_test(register_variant(tmp_path / "b", "b"), weight=50)
    variants.start_shadow(register_variant(tmp_path / "c", "c"))
    queue_predictions(seller, 8)
    classify_pending()  # loads the models
    queue_predictions(seller, count)
    # Claim: savepoint, select, update, release. Categories, live versions, rules; the shadows, whether anything is due,
    # and their one INSERT. The claim that finds nothing: savepoint, select, release, and an update of no rows is none.
    # The one UPDATE goes past Django, with one query that knows the vectors' type.
    with django_assert_num_queries(13):
        classify_pending()
    assert not Prediction.objects.waiting().exists()
