import json
import subprocess
import sys
from pathlib import Path

import pytest

from classifier.ml.artifact import ArtifactError, read_config, seal_artifact, verify_artifact

CONFIG = {
    "format": 1,
    "modality": "text",
    "backbone": "all-MiniLM-L6-v2",
    "labels": ["beauty", "pet-supplies"],
    "temperature": 1.0,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "metrics.json").write_text("{}")
    (folder / "card.md").write_text("# card")
    return folder


def write_config(folder: Path, **changes: object) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))


def test_a_sealed_folder_verifies_against_its_checksum(folder: Path) -> None:
    checksum = seal_artifact(folder)
    assert len(checksum) == 64
    assert verify_artifact(folder) == verify_artifact(folder, checksum) == checksum


def test_sealing_twice_gives_the_same_checksum(folder: Path) -> None:
    assert seal_artifact(folder) == seal_artifact(folder)


def test_one_changed_byte_is_found(folder: Path) -> None:
    seal_artifact(folder)
    (folder / "model.safetensors").write_bytes(b"weighty")
    with pytest.raises(ArtifactError, match=r"model\.safetensors.*changed"):
        verify_artifact(folder)


def test_a_missing_file_is_found(folder: Path) -> None:
    seal_artifact(folder)
    (folder / "card.md").unlink()
    with pytest.raises(ArtifactError, match=r"card\.md.*missing"):
        verify_artifact(folder)


def test_an_extra_file_is_found(folder: Path) -> None:
    seal_artifact(folder)
    (folder / "extra.pkl").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"extra\.pkl.*not listed"):
        verify_artifact(folder)


def test_a_folder_inside_is_refused(folder: Path) -> None:
    (folder / "inside").mkdir()
    with pytest.raises(ArtifactError, match="inside: not a plain file"):
        seal_artifact(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError, match="link: not a plain file"):
        seal_artifact(folder)


def test_a_folder_that_was_sealed_again_does_not_match_the_registered_checksum(folder: Path) -> None:
    checksum = seal_artifact(folder)
    (folder / "card.md").write_text("# forged")
    seal_artifact(folder)
    with pytest.raises(ArtifactError, match="not the registered"):
        verify_artifact(folder, checksum)


def test_an_incomplete_folder_is_not_sealed(folder: Path) -> None:
    (folder / "metrics.json").unlink()
    with pytest.raises(ArtifactError, match=r"metrics\.json: missing"):
        seal_artifact(folder)


@pytest.mark.parametrize("content", ["", "[]", '{"files": 3}', "\xff"])
def test_an_unusable_manifest_is_an_artifact_error(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        verify_artifact(folder)


def test_a_folder_that_is_not_there_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json: cannot be read"):
        verify_artifact(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="not a folder"):
        seal_artifact(tmp_path / "nowhere")


def test_the_config_is_read_back(folder: Path) -> None:
    assert read_config(folder) == CONFIG


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("modality", "sound"),
        ("backbone", ""),
        ("labels", ["beauty"]),
        ("labels", ["beauty", "beauty"]),
        ("labels", ["beauty", 3]),
        ("labels", "beauty"),
        ("temperature", 0),
        ("temperature", True),
        ("temperature", "1"),
        ("temperature", float("nan")),
    ],
)
def test_a_config_with_an_unusable_entry_is_refused_by_name(folder: Path, name: str, value: object) -> None:
    write_config(folder, **{name: value})
    with pytest.raises(ArtifactError, match=rf"config\.json: .*{name}"):
        read_config(folder)


def test_modules_of_web_processes_do_not_import_torch() -> None:
    code = "import sys, classifier.ml.artifact, classifier.ml.ensemble; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
