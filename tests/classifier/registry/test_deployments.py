import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, storages
from django.db import connection

from classifier.evaluation.category_coverage import coverage_of
from classifier.ml import artifact
from classifier.ml.classifier import ProductInput
from classifier.models import Category, Deployment, EnsembleRule, ModelVersion, Prediction, Variant
from classifier.registry import artifact_store, deployments, ensemble_rules, model_cache, traffic, variants, versions
from classifier.services import STARTER, fill_missing_labels, load_categories, register_starters
from classifier.tasks import classify_pending
from portal.models import User
from tests.support.accounts import make_user
from tests.support.model_versions import live_version_name, register_variant
from tests.support.predictions import queue_predictions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A text model that differs from the starter."""
    copy = tmp_path / "text"
    shutil.copytree(STARTER / "text", copy)
    (copy / "card.md").write_text("Another one.")
    (copy / artifact.MANIFEST).unlink()
    artifact.seal_artifact(copy)
    return copy


def test_preparing_twice_changes_nothing(db: None) -> None:
    before = list(Variant.objects.values_list("pk", "version__checksum", "weight"))
    register_starters()
    assert load_categories() == 18
    assert list(Variant.objects.values_list("pk", "version__checksum", "weight")) == before


def test_new_starters_replace_old_ones_and_nothing_else(
    db: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(STARTER / "image", tmp_path / "image")
    shutil.copy(STARTER / "ensemble.json", tmp_path)
    monkeypatch.setattr("classifier.services.STARTER", tmp_path)
    register_starters()
    (deployed,) = traffic.live_variants_by_modality()["text"]
    assert deployed.version.checksum == artifact.verify_artifact(folder)

    deployments.deploy_version(register_variant(tmp_path / "own", "Our own."))
    register_starters()
    assert live_version_name() == "own"


def test_a_starter_that_was_rolled_back_is_not_deployed_again(
    db: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = live_version_name()
    shutil.copytree(STARTER / "image", tmp_path / "image")
    shutil.copy(STARTER / "ensemble.json", tmp_path)
    monkeypatch.setattr("classifier.services.STARTER", tmp_path)
    register_starters()
    assert live_version_name() != first
    deployments.roll_back("text")
    register_starters()
    assert live_version_name() == first


def test_a_folder_that_was_tampered_with_is_not_registered(db: None, folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    with pytest.raises(artifact.ArtifactError, match="config.json"):
        versions.register_version(folder, name="tampered")
    assert not ModelVersion.objects.filter(name="tampered").exists()


def test_deploying_gives_all_traffic_to_one_version(db: None, folder: Path) -> None:
    version = versions.register_version(folder, name="candidate")
    assert versions.register_version(folder, name="again") == version
    deployments.deploy_version(version)
    assert [variant.version for variant in traffic.live_variants_by_modality()["text"]] == [version]
    assert len(traffic.live_variants_by_modality()["image"]) == 1


def test_a_damaged_local_copy_is_fetched_again(db: None, folder: Path) -> None:
    version = versions.register_version(folder, name="candidate")
    local = artifact_store.fetch_artifact(version.path, version.checksum)
    (local / "model.safetensors").write_bytes(b"rotten")
    assert artifact.verify_artifact(artifact_store.fetch_artifact(version.path, version.checksum)) == version.checksum
    assert local.is_relative_to(settings.MODEL_CACHE)


def test_processes_that_fetch_at_once_share_one_download(
    db: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = versions.register_version(folder, name="candidate")
    shutil.rmtree(settings.MODEL_CACHE / version.path, ignore_errors=True)
    downloads: list[str] = []
    download = artifact_store._download

    def noted(path: str, checksum: str, folder: Path) -> None:
        downloads.append(path)
        download(path, checksum, folder)

    monkeypatch.setattr(artifact_store, "_download", noted)
    with ThreadPoolExecutor(8) as threads:  # a lock of its own each, as processes have
        copies = list(threads.map(lambda _: artifact_store.fetch_artifact(version.path, version.checksum), range(8)))
    assert downloads == [version.path]
    assert artifact.verify_artifact(copies[0]) == version.checksum


def test_a_damaged_stored_copy_is_refused(db: None, folder: Path) -> None:
    version = versions.register_version(folder, name="candidate")
    storages["models"].save(f"{version.path}/model.safetensors", ContentFile(b"rotten"))
    shutil.rmtree(settings.MODEL_CACHE / version.path, ignore_errors=True)
    with pytest.raises(artifact.ArtifactError):
        model_cache.load_model(version)


def test_the_files_of_an_interrupted_attempt_are_replaced(db: None, folder: Path) -> None:
    checksum, storage = artifact.verify_artifact(folder), storages["models"]
    for name, content in (("card.md", b"half a ca"), ("left-over.tmp", b"x"), ("manifest.json", b"{}")):
        storage.save(f"text/{checksum}/{name}", ContentFile(content))
    version = versions.register_version(folder, name="candidate")
    artifact_store.verify_stored(version)
    assert set(storage.listdir(version.path)[1]) == {path.name for path in folder.iterdir()}


class ForgetfulStorage(FileSystemStorage):
    """A storage that truncates the weights without an error."""

    def _save(self, name: str, content: Any) -> str:
        if name.endswith("safetensors"):
            content = ContentFile(content.read()[:-10])
        return str(super()._save(name, content))


def test_nothing_is_registered_when_the_storage_returns_other_content(
    db: None, folder: Path, settings: Any, tmp_path: Path
) -> None:
    backend = {
        "BACKEND": "tests.classifier.registry.test_deployments.ForgetfulStorage",
        "OPTIONS": {"location": str(tmp_path / "forgetful"), "allow_overwrite": True},
    }
    settings.STORAGES = {**settings.STORAGES, "models": backend}
    with pytest.raises(artifact.ArtifactError, match=r"model\.safetensors"):
        versions.register_version(folder, name="candidate")
    assert not ModelVersion.objects.filter(name="candidate").exists()
    assert not list((tmp_path / "forgetful").rglob("manifest.json"))


def test_an_accuracy_outside_0_and_1_is_refused(db: None, folder: Path) -> None:
    (folder / "metrics.json").write_text('{"accuracy": "good"}')
    artifact.seal_artifact(folder)
    with pytest.raises(artifact.ArtifactError, match="accuracy"):
        versions.register_version(folder, name="candidate")


def test_lineage_is_kept(db: None, folder: Path) -> None:
    parent = ModelVersion.objects.get(modality="text")
    version = versions.register_version(folder, name="candidate", parent=parent, lineage={"dataset": "abc"})
    version.refresh_from_db()
    assert (version.parent, version.lineage, version.state) == (parent, {"dataset": "abc"}, "registered")


def test_a_rejected_version_cannot_be_deployed(db: None, folder: Path) -> None:
    before = live_version_name()
    version = versions.register_version(
        folder, name="candidate", state=ModelVersion.State.REJECTED, reason="Accuracy 0.3."
    )
    with pytest.raises(deployments.NotDeployable, match=r"Accuracy 0\.3"):
        deployments.deploy_version(version)
    assert live_version_name() == before


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json", "config.json"])
@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_a_version_with_a_damaged_stored_artifact_is_refused_and_the_old_one_stays_live(
    db: None, folder: Path, name: str, fault: str
) -> None:
    before, count = live_version_name(), Deployment.objects.count()
    version = versions.register_version(folder, name="candidate")
    storages["models"].delete(f"{version.path}/{name}")
    if fault == "changed":
        storages["models"].save(f"{version.path}/{name}", ContentFile(b"rotten"))
    with pytest.raises(artifact.ArtifactError, match=name):
        deployments.deploy_version(version)
    assert (live_version_name(), Deployment.objects.count()) == (before, count)


def test_every_deployment_is_recorded(db: None, administrator: User, folder: Path) -> None:
    before = Variant.objects.get(version__modality="text").version
    version = versions.register_version(folder, name="candidate")
    deployments.deploy_version(version, by=administrator, note="better")
    deployments.deploy_version(version)  # live already: nothing changes
    latest = Deployment.objects.filter(modality="text").first()
    assert latest is not None
    assert (latest.version, latest.replaced, latest.deployed_by, latest.note) == (
        version, before, administrator, "better",
    )  # fmt: skip
    assert Deployment.objects.filter(version=version).count() == 1


def test_each_roll_back_goes_one_deployment_further_back(db: None, tmp_path: Path) -> None:
    starter = live_version_name()
    for name in ("a", "b", "c"):
        deployments.deploy_version(register_variant(tmp_path / name, name))
    deployments.roll_back("text")
    assert live_version_name() == "b"
    deployments.deploy_version(ModelVersion.objects.get(name="c"))
    for expected in ("b", "a", starter):
        deployments.roll_back("text")
        assert live_version_name() == expected
    with pytest.raises(deployments.NothingToRollBack, match="nothing to roll back to"):
        deployments.roll_back("text")
    assert live_version_name() == starter
    assert Deployment.objects.filter(kind="rollback").count() == 4


def damage(version: ModelVersion) -> None:
    """Break the version's artifact everywhere, as a fault after its deployment would."""
    storages["models"].save(f"{version.path}/model.safetensors", ContentFile(b"rotten"))
    shutil.rmtree(settings.MODEL_CACHE / version.path, ignore_errors=True)
    model_cache.unload_all()


def test_sellers_keep_getting_suggestions_when_the_live_version_is_damaged(
    seller: User, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_cache, "BROKEN_FOR", 3600.0)  # however slow the machine is
    before = Variant.objects.get(version__modality="text").version
    version = versions.register_version(folder, name="candidate")
    deployments.deploy_version(version)
    damage(version)
    (first,) = queue_predictions(seller)
    classify_pending()
    (second,) = queue_predictions(seller)
    classify_pending()
    for row in Prediction.objects.filter(pk__in=[first.pk, second.pk]):
        assert (row.state, row.text_version) == (Prediction.State.DONE, before)
    assert [record.levelname for record in caplog.records if "can't be loaded" in record.message] == ["ERROR"]


def test_a_repaired_version_answers_again(seller: User, folder: Path) -> None:
    version = versions.register_version(folder, name="candidate")
    deployments.deploy_version(version)
    damage(version)
    assert model_cache.load_or_fall_back(version) != version
    storages["models"].save(
        f"{version.path}/model.safetensors", ContentFile((folder / "model.safetensors").read_bytes())
    )
    model_cache._broken.clear()  # half a minute later
    assert model_cache.load_or_fall_back(version) == version


def test_a_model_that_cannot_be_built_from_its_artifact_is_refused_like_a_damaged_one(db: None, tmp_path: Path) -> None:
    version = register_variant(tmp_path / "misfit", "Misfit", config={"hidden": 7})
    with pytest.raises(artifact.ArtifactError):
        model_cache.load_model(version)


def test_a_model_is_loaded_once_per_process(db: None) -> None:
    version = Variant.objects.get(version__modality="text").version
    assert model_cache.load_model(version) is model_cache.load_model(version)


@pytest.fixture
def worker(committed_db: None) -> Iterator[Callable[[], None]]:
    """Classify pending predictions in two threads, like two workers, until the fixture's function is called."""
    done, errors = threading.Event(), []

    def work() -> None:
        try:
            while not done.is_set():
                classify_pending()
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _number in range(2)]
    for thread in threads:
        thread.start()

    def stop() -> None:
        done.set()
        for thread in threads:
            thread.join()
        assert errors == []

    yield stop
    done.set()


def test_a_deployment_under_load_fails_and_mixes_no_prediction(worker: Callable[[], None], tmp_path: Path) -> None:
    """Two versions that differ by their temperature only answer the same title differently: who wrote what shows."""
    seller = make_user("busy@shop.example")
    title, versions = "Yamaha guitar amplifier with a cable", {}
    for name, temperature in (("cool", 0.7), ("warm", 3.0)):
        versions[name] = register_variant(tmp_path / name, name, config={"temperature": temperature})
    image = Variant.objects.get(version__modality="image").version
    for version in versions.values():
        EnsembleRule.objects.create(text_version=version, image_version=image, parameters={"temperature": 1.0})
    expected = {}
    for name, version in versions.items():
        output = model_cache.load_model(version).predict([ProductInput(title)])
        expected[version.pk] = float(output.probabilities.max())
        assert name
    assert abs(expected[versions["cool"].pk] - expected[versions["warm"].pk]) > 0.1

    rows: list[Prediction] = []
    for turn in range(8):
        deployments.deploy_version(versions["cool" if turn % 2 else "warm"])
        for _batch in range(3):
            rows += Prediction.objects.bulk_create(Prediction(seller=seller, title=title) for _number in range(4))
    while Prediction.objects.waiting().exists():
        pass
    worker()

    answered = Prediction.objects.filter(pk__in=[row.pk for row in rows])
    assert {row.state for row in answered} == {Prediction.State.DONE}
    assert {row.attempts for row in answered} == {1}
    assert {row.text_version_id for row in answered} == set(expected)
    for row in answered:
        assert row.best is not None
        assert row.best["probability"] == pytest.approx(expected[row.text_version_id], abs=1e-3)
    assert Deployment.objects.filter(modality="text").count() == 9


def test_a_version_that_loses_categories_is_refused_unless_that_is_accepted(db: None, tmp_path: Path) -> None:
    starter = live_version_name()
    narrow = register_variant(tmp_path / "narrow", "Narrow.")
    ModelVersion.objects.filter(pk=narrow.pk).update(labels=["beauty", "electronics", "no-category"])
    narrow.refresh_from_db()
    for change in (lambda: deployments.deploy_version(narrow), lambda: variants.start_test(narrow, weight=10)):
        with pytest.raises(deployments.CategoryLoss, match="16 categories that the live model suggests: Appliances; "):
            change()
    assert live_version_name() == starter
    deployments.deploy_version(narrow, accepts_loss=True)
    wide = ModelVersion.objects.get(name=starter)
    deployments.deploy_version(wide)  # it loses nothing
    deployments.roll_back("text")  # the way out of an emergency is never barred
    assert live_version_name() == "narrow"


def test_categories_that_are_switched_off_are_not_lost(db: None, tmp_path: Path) -> None:
    narrow = register_variant(tmp_path / "narrow", "Narrow.")
    ModelVersion.objects.filter(pk=narrow.pk).update(labels=["beauty", "electronics"])
    narrow.refresh_from_db()
    Category.objects.exclude(slug__in=["beauty", "electronics"]).update(is_active=False)
    assert str(coverage_of(narrow.labels)) == "2 of 2 categories"
    deployments.deploy_version(narrow)


@pytest.mark.parametrize("change", ["deploy", "test"])
def test_a_new_pair_uses_the_replaced_versions_rule_until_it_has_its_own(db: None, tmp_path: Path, change: str) -> None:
    rule = EnsembleRule.objects.get()
    candidate = register_variant(tmp_path / "candidate", "A new one.")
    if change == "deploy":
        deployments.deploy_version(candidate)
    else:
        variants.start_test(candidate, weight=10)
    carried = EnsembleRule.objects.get(text_version=candidate)
    assert (carried.kind, carried.parameters) == (rule.kind, rule.parameters)
    assert carried.carried_over_from == str(rule)
    assert carried.rule().calibrated
    assert (candidate, rule.image_version) in ensemble_rules.pairs_without_rule()
    other = register_variant(tmp_path / "other", "Another.", "image")
    deployments.deploy_version(other)
    again = EnsembleRule.objects.get(text_version=candidate, image_version=other)
    assert again.carried_over_from == str(rule)  # where it was fitted, not who had it last


def test_a_version_without_recorded_categories_gets_those_of_its_artifact(db: None) -> None:
    version = ModelVersion.objects.get(modality="text")
    labels = version.labels
    ModelVersion.objects.update(labels=[])
    config = f"{ModelVersion.objects.get(modality='image').path}/config.json"
    content = storages["models"].open(config).read()
    storages["models"].delete(config)
    fill_missing_labels()
    storages["models"].save(config, ContentFile(content))
    version.refresh_from_db()
    assert version.labels == labels
    assert ModelVersion.objects.get(modality="image").labels == []  # the next time
