import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.core.management import CommandError, call_command

from classifier.models import Deployment, ModelVersion
from classifier.registry import versions
from tests.support.model_versions import live_version_name, register_variant


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    call_command("models", *words)
    return capsys.readouterr().out


def test_the_list_shows_the_live_versions(db: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    register_variant(tmp_path / "candidate", "A new one.")
    table = run(capsys, "list").splitlines()
    assert table[0].split() == ["id", "modality", "name", "suggests", "accuracy", "log-loss", "state", "registered"]
    assert "candidate" in table[2] and "registered" in table[2]
    assert len([line for line in table if "deployed, 100%" in line]) == 2
    rows = json.loads(run(capsys, "list", "text", "--json"))
    assert [row["name"] for row in rows] == ["candidate", live_version_name()]
    assert [row["deployed"] for row in rows] == [0, 100]


def test_a_version_is_shown_with_recorded_and_unrecorded_figures(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    version = ModelVersion.objects.get(modality="text")
    text = run(capsys, "show", live_version_name())
    for words in (f"{100 * version.accuracy:.1f}%", "Musical Instruments", "checksum"):
        assert words in text
    ModelVersion.objects.filter(pk=version.pk).update(metrics={"accuracy": 0.8})
    assert "not recorded" in run(capsys, "show", live_version_name())
    for name in (str(version.pk), version.name, f"text {version.name}", version.checksum[:12]):
        assert json.loads(run(capsys, "show", name, "--json"))["id"] == version.pk


def test_a_version_is_deployed_and_rolled_back(db: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = live_version_name()
    register_variant(tmp_path / "candidate", "A new one.")
    assert f"Deployed text candidate in place of text {before}" in run(capsys, "deploy", "candidate", "--note", "why")
    assert Deployment.objects.first().note == "why"  # type: ignore[union-attr]
    assert "is live already" in run(capsys, "deploy", "candidate")
    assert f"to text {before}" in run(capsys, "rollback", "text")
    assert live_version_name() == before
    with pytest.raises(CommandError, match="nothing to roll back to"):
        call_command("models", "rollback", "text")


def test_a_version_that_must_not_serve_is_refused_with_a_message(db: None, tmp_path: Path) -> None:
    before = live_version_name()
    version = register_variant(tmp_path / "candidate", "A new one.")
    storages["models"].delete(f"{version.path}/model.safetensors")
    with pytest.raises(CommandError, match=r"model\.safetensors: missing or changed"):
        call_command("models", "deploy", "candidate")
    ModelVersion.objects.filter(pk=version.pk).update(state="rejected", reason="Too slow.")
    with pytest.raises(CommandError, match=r"rejected.*Too slow\."):
        call_command("models", "deploy", "candidate")
    assert live_version_name() == before


def test_an_unknown_or_ambiguous_name_is_reported(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no model version nothing"):
        call_command("models", "show", "nothing")
    for modality in ("text", "image"):
        register_variant(tmp_path / modality / "twin", "Twin.", modality)
    with pytest.raises(CommandError, match="Several versions"):
        call_command("models", "show", "twin")
    assert versions.find_version("image twin").modality == "image"


def test_two_versions_are_compared(db: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "candidate"
    version = register_variant(folder, "A new one.")
    metrics: dict[str, Any] = {**version.metrics, "accuracy": version.accuracy + 0.02}
    ModelVersion.objects.filter(pk=version.pk).update(metrics=metrics)
    text = run(capsys, "compare", live_version_name(), "candidate")
    assert "different test products" in text and "measure_versions" in text
    assert "suggests 18 of 18 categories" in text
    assert "+2.0" not in text
    content = json.loads(run(capsys, "compare", live_version_name(), "candidate", "--json"))
    accuracy = next(row for row in content["figures"] if row["key"] == "accuracy")
    assert accuracy["second"] == pytest.approx(accuracy["first"] + 0.02)
    with pytest.raises(CommandError, match="different modalities"):
        call_command("models", "compare", str(version.pk), live_version_name("image"))
    shutil.rmtree(folder)
