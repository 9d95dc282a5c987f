import shutil
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from classifier import artifact, registry
from classifier.models import ModelVersion, Variant
from classifier.services import STARTER, load_categories, register_starters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A text model that differs from the starter."""
    copy = tmp_path / "text"
    shutil.copytree(STARTER / "text", copy)
    (copy / "card.md").write_text("Another one.")
    (copy / artifact.MANIFEST).unlink()
    artifact.seal(copy)
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
    (deployed,) = registry.deployed()["text"]
    assert deployed.version.checksum == artifact.verify(folder)

    registry.deploy(ModelVersion.objects.create(modality="text", name="own", checksum="0" * 64, accuracy=0.9))
    register_starters()
    assert [variant.version.name for variant in registry.deployed()["text"]] == ["own"]


def test_a_folder_that_was_tampered_with_is_not_registered(db: None, folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    with pytest.raises(artifact.ArtifactError, match="config.json"):
        registry.register(folder, name="tampered")
    assert not ModelVersion.objects.filter(name="tampered").exists()


def test_deploying_gives_all_traffic_to_one_version(db: None, folder: Path) -> None:
    version = registry.register(folder, name="candidate")
    assert registry.register(folder, name="again") == version
    registry.deploy(version)
    assert [variant.version for variant in registry.deployed()["text"]] == [version]
    assert len(registry.deployed()["image"]) == 1


def test_a_damaged_local_copy_is_fetched_anew(db: None, folder: Path) -> None:
    version = registry.register(folder, name="candidate")
    local = registry.fetch(version.path, version.checksum)
    (local / "model.safetensors").write_bytes(b"rotten")
    assert artifact.verify(registry.fetch(version.path, version.checksum)) == version.checksum
    assert local.is_relative_to(settings.MODEL_CACHE)


def test_a_damaged_stored_copy_is_refused(db: None, folder: Path) -> None:
    version = registry.register(folder, name="candidate")
    storages["models"].save(f"{version.path}/model.safetensors", ContentFile(b"rotten"))
    shutil.rmtree(settings.MODEL_CACHE / version.path, ignore_errors=True)
    with pytest.raises(artifact.ArtifactError):
        registry.load_text(version)


def test_a_model_is_loaded_once_per_process(db: None) -> None:
    version = Variant.objects.get(version__modality="text").version
    assert registry.load_text(version) is registry.load_text(version)
