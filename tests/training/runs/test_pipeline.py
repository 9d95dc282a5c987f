import os
import signal
import threading
import time
from pathlib import Path

import boto3
import psutil
import pytest
from django.conf import LazySettings
from django.utils import timezone
from moto.server import ThreadedMotoServer

from classifier.models import EnsembleRule, Modality, ModelVersion
from classifier.registry import deployments, traffic, variants
from classifier.services import register_starters
from classifier.serving.batch import predict_now
from common.object_storage import StorageDown
from tests.support.model_versions import register_variant
from tests.support.training_runs import carry_out, import_folder, offer_only_made_up, quick_recipe, write_products
from training.acceptance import engine_agreement, ensemble_fitting
from training.datasets import snapshots
from training.models import TrainingRun
from training.runs import pipeline, services, subprocess_runner, workspace

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def easy_gate(settings: LazySettings) -> None:
    settings.MIN_ACCURACY = {"text": 0.6, "image": 0.2}
    settings.MAX_LATENCY_MS = {"text": 60_000, "image": 60_000}


@pytest.fixture(autouse=True)
def few_categories(db: None) -> None:
    offer_only_made_up()


@pytest.fixture
def products(tmp_path: Path) -> None:
    import_folder(write_products(tmp_path / "shop", count=150, photos=60))


def test_candidates_that_beat_the_champions_are_deployed_with_their_history_and_a_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble_fitting, "MIN_ROWS", 5)
    import_folder(write_products(tmp_path / "shop", count=240, photos=90))
    champion = traffic.current_champion(Modality.TEXT)
    runs = [
        carry_out(services.request_training(modality=modality, recipe=quick_recipe(modality))) for modality in Modality
    ]
    for run in runs:
        assert run.state == TrainingRun.State.DEPLOYED, f"{run.message}\n{run.log}"
        version = run.version
        assert version is not None
        assert version == traffic.current_champion(Modality(run.modality))
        assert version.metrics["accuracy"] >= 0.6
        assert version.lineage["recipe"]["name"] == "head"
        assert run.curve
        assert not workspace.work_folder(run).exists()
    text, image = runs
    assert "It suggests 3 of 3 categories." in text.message
    assert "reference products" in text.message
    assert "Unusual products can't be flagged: that needs 100 held-back products." in text.log
    assert text.dataset == image.dataset is not None
    assert text.version.lineage["dataset"] == text.dataset.checksum  # type: ignore[union-attr]
    rule = EnsembleRule.objects.get(text_version=text.version, image_version=image.version)
    assert set(rule.metrics["test"]) >= {"text", "image", rule.kind}
    answer, categories = predict_now(title="zorblat quimpel", description="", photo=None)
    assert categories[int(answer.probabilities.argmax())].slug == "toys-games"
    deployments.roll_back(Modality.TEXT)
    assert traffic.current_champion(Modality.TEXT) == champion


def test_a_run_compares_the_engines_continues_from_its_version_and_ends_no_test_unless_it_may(
    products: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_agreement, "MIN_ROWS", 10)
    variants.start_test(register_variant(tmp_path / "b", "b"), weight=10)
    run = services.request_training(modality=Modality.TEXT, recipe=quick_recipe())
    with monkeypatch.context() as patch:
        patch.setattr(ensemble_fitting, "fit_missing_rules", lambda *_: (_ for _ in ()).throw(StorageDown("away")))
        interrupted = carry_out(run)
    assert interrupted.state == TrainingRun.State.QUEUED
    assert interrupted.version is not None
    assert interrupted.available_at > timezone.now()  # it rests first
    engine = interrupted.version.engines["openvino f32 cpu"]
    assert (engine["n"], engine["passed"]) == (10, True)
    assert "openvino f32 cpu: passed: agrees on" in interrupted.log

    again = carry_out(run)
    assert again.state == TrainingRun.State.REGISTERED, f"{again.message}\n{again.log}"
    assert again.version == interrupted.version
    assert ModelVersion.objects.filter(modality="text").count() == 3
    assert "An experiment is running" in again.message
    assert len(traffic.live_variants(Modality.TEXT)) == 2

    TrainingRun.objects.filter(pk=run.pk).update(state=TrainingRun.State.QUEUED, ends_test=True)
    assert carry_out(run).state == TrainingRun.State.DEPLOYED
    assert [variant.version for variant in traffic.live_variants(Modality.TEXT)] == [again.version]


@pytest.mark.slow
def test_data_and_models_may_live_in_s3(bucket: ThreadedMotoServer, tmp_path: Path, settings: LazySettings) -> None:
    settings.DATASET_CACHE, settings.MODEL_CACHE = tmp_path / "datasets", tmp_path / "models"
    register_starters()
    import_folder(write_products(tmp_path / "shop", count=150, photos=12))
    run = carry_out(services.request_training(modality=Modality.TEXT, recipe=quick_recipe()))
    assert run.state == TrainingRun.State.DEPLOYED, f"{run.message}\n{run.log}"
    keys = boto3.resource("s3", endpoint_url="http://{}:{}".format(*bucket.get_host_and_port())).Bucket("aisle").objects
    names = [item.key for item in keys.all()]
    assert sum(name.startswith("datasets/photos/") for name in names) == 12
    assert any(name.startswith("datasets/snapshots/") and name.endswith(".parquet") for name in names)
    assert f"models/{run.version.path}/manifest.json" in names  # type: ignore[union-attr]


def test_a_candidate_below_the_threshold_is_rejected_and_the_champion_stays(
    tmp_path: Path, settings: LazySettings
) -> None:
    settings.MIN_ACCURACY = {"text": 0.75, "image": 0.2}
    import_folder(write_products(tmp_path / "noise", shuffled=True))
    champion = traffic.current_champion(Modality.TEXT)
    run = carry_out(services.request_training(modality=Modality.TEXT, recipe=quick_recipe()))
    assert run.state == TrainingRun.State.REJECTED, f"{run.message}\n{run.log}"
    assert run.version is not None
    assert run.version.state == ModelVersion.State.REJECTED
    assert "0.75" in run.version.reason or "75" in run.version.reason
    assert traffic.current_champion(Modality.TEXT) == champion


@pytest.mark.slow
def test_no_deploy_registers_only(products: None) -> None:
    champion = traffic.current_champion(Modality.TEXT)
    run = carry_out(services.request_training(modality=Modality.TEXT, recipe=quick_recipe(), deploys=False))
    assert run.state == TrainingRun.State.REGISTERED, run.log
    assert traffic.current_champion(Modality.TEXT) == champion


def test_a_killed_fit_continues_and_a_run_that_is_killed_too_often_fails(products: None) -> None:
    run = services.request_training(modality=Modality.TEXT, recipe=quick_recipe())
    TrainingRun.objects.filter(pk=run.pk).update(attempts=pipeline.MAX_ATTEMPTS - 2)
    with KillsChild(workspace.work_folder(run)):
        after = carry_out(run)
    assert after.state == TrainingRun.State.QUEUED, after.log
    with KillsChild(workspace.work_folder(run)):
        after = carry_out(run)
    assert after.state == TrainingRun.State.FAILED
    assert "SIGKILL" in after.message
    assert ModelVersion.objects.count() == 2  # the starters


@pytest.mark.slow
def test_a_run_that_was_killed_once_ends_well(products: None) -> None:
    run = services.request_training(modality=Modality.TEXT, recipe=quick_recipe())
    with KillsChild(workspace.work_folder(run)):
        assert carry_out(run).state == TrainingRun.State.QUEUED
    assert carry_out(run).state == TrainingRun.State.DEPLOYED


def test_a_running_fit_is_cancelled_and_its_process_ends(products: None, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = traffic.current_champion(Modality.TEXT)
    run = services.request_training(
        modality=Modality.TEXT, recipe=quick_recipe(head_epochs=10_000, head_patience=10_000)
    )
    save, child = subprocess_runner.RunMonitor.save, []

    def cancel_after_the_first_loss(monitor: subprocess_runner.RunMonitor) -> None:
        if monitor.curve and not child:
            child.append(psutil.Process(int((monitor.folder / "pid").read_text())))
            services.cancel_training(run)
        save(monitor)

    monkeypatch.setattr(subprocess_runner.RunMonitor, "save", cancel_after_the_first_loss)
    assert carry_out(run).state == TrainingRun.State.CANCELLED
    assert child
    assert not child[0].is_running()
    assert traffic.current_champion(Modality.TEXT) == champion


@pytest.mark.slow
def test_a_candidate_never_replaces_what_was_deployed_while_it_was_measured(
    products: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = carry_out(services.request_training(modality=Modality.TEXT, recipe=quick_recipe(), deploys=False))
    assert first.version is not None
    fit_missing = ensemble_fitting.fit_missing_rules

    def meanwhile(*arguments: object) -> object:
        deployments.deploy_version(first.version)  # type: ignore[arg-type]
        return fit_missing(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ensemble_fitting, "fit_missing_rules", meanwhile)
    second = carry_out(services.request_training(modality=Modality.TEXT, recipe=quick_recipe(seed=5)))
    assert second.state == TrainingRun.State.REGISTERED, second.log
    assert "has been deployed" in second.message
    assert traffic.current_champion(Modality.TEXT) == first.version


def test_a_run_that_kills_its_worker_several_times_is_given_up(products: None) -> None:
    run = services.request_training(modality=Modality.TEXT, recipe=quick_recipe())
    TrainingRun.objects.filter(pk=run.pk).update(attempts=pipeline.MAX_ATTEMPTS)
    ended = carry_out(run)
    assert ended.state == TrainingRun.State.FAILED
    assert "killed several times" in ended.message


def test_a_run_whose_lease_was_lost_writes_nothing(products: None) -> None:
    run = services.request_training(modality=Modality.TEXT, recipe=quick_recipe())
    claimed = TrainingRun.objects.claim(run.pk)
    assert claimed is not None
    claimed.lease = run.pk  # another's
    pipeline.execute_run(claimed)
    run.refresh_from_db()
    assert run.state == TrainingRun.State.RUNNING
    assert run.finished_at is None


@pytest.mark.parametrize(
    ("rows", "words"), [([], "The dataset is empty"), ([("1", "a red lipstick", "Beauty")], "only one category")]
)
def test_a_dataset_with_too_little_fails_with_a_sentence(
    tmp_path: Path, rows: list[tuple[str, str, str]], words: str
) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    lines = [",".join(("id", "title", "category")), *(f"{i}-{n},{t} {n},{c}" for n in range(30) for i, t, c in rows)]
    (folder / "products.csv").write_text("\n".join(lines) + "\n")
    if rows:
        import_folder(folder)
    run = carry_out(services.request_training(modality=Modality.TEXT, recipe=quick_recipe()))
    assert run.state == TrainingRun.State.FAILED
    assert words in run.message
    assert run.message.endswith("The live model is unchanged.")
    assert "Traceback" not in run.message
    assert "Error" not in run.message
    assert ModelVersion.objects.count() == 2


@pytest.mark.slow
def test_a_category_that_was_deleted_meanwhile_is_left_out(products: None) -> None:
    from classifier.models import Category
    from training.models import Example

    dataset = snapshots.make_dataset()
    Example.objects.filter(category__slug="beauty").delete()
    Category.objects.get(slug="beauty").delete()
    run = carry_out(services.request_training(modality=Modality.TEXT, recipe=quick_recipe(), dataset=dataset))
    assert run.state == TrainingRun.State.DEPLOYED, run.log
    assert "beauty" in run.log
    assert "beauty" not in run.version.metrics["classes"]  # type: ignore[union-attr]


class KillsChild:
    """Kills the process that works in a folder as soon as it tells of its first step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self.before = self._size()
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _size(self) -> int:
        path = self.folder / "progress.jsonl"
        return path.stat().st_size if path.exists() else 0

    def _watch(self) -> None:
        while not self.done.is_set():
            if self._size() > self.before:
                pid = (self.folder / "pid").read_text()
                os.killpg(int(pid), signal.SIGKILL)
                return
            time.sleep(0.01)


def test_progress_lines_reach_the_curve_and_it_stays_short() -> None:
    monitor = subprocess_runner.RunMonitor(TrainingRun(), Path())
    for step in range(5_000):
        monitor.read_progress_line(f'{{"stage": "head", "step": {step}, "total": 5000, "loss": 0.5}}\n')
        if step % 1_000 == 0:
            monitor.read_progress_line(f'{{"stage": "head", "step": {step}, "total": 5000, "validation_loss": 0.6}}\n')
    monitor.read_progress_line("not json\n")
    assert len(monitor.curve) <= subprocess_runner.MAX_CURVE_POINTS
    assert sum("validation_loss" in point for point in monitor.curve) == 5
