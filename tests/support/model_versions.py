"""Register model versions that differ from the starters."""

import json
import shutil
from pathlib import Path
from typing import Any

from classifier.ml import artifact
from classifier.models import ModelVersion
from classifier.registry import traffic, versions
from classifier.services import STARTER


def register_variant(
    folder: Path, card: str, modality: str = "text", config: dict[str, Any] | None = None
) -> ModelVersion:
    """Register a copy of a starter that differs by its card and its config, under the folder's name."""
    shutil.copytree(STARTER / modality, folder)
    (folder / "card.md").write_text(card)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(config or {})}))
    artifact.seal_artifact(folder)
    return versions.register_version(folder, name=folder.name)


def live_version_name(modality: str = "text") -> str:
    """Return the name of the only live version."""
    (variant,) = traffic.live_variants_by_modality()[modality]
    return variant.version.name
