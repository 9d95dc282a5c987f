"""What each version has learnt to know, kept beside it: who asks about something else is told so."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from classifier.ml.out_of_distribution import Unusual
from classifier.models import Familiar, ModelVersion


def read(version: ModelVersion) -> Unusual | None:
    """Return what tells the version's unusual inputs; None where that was not learnt yet."""
    row = Familiar.objects.filter(version=version).first()
    return Unusual.from_arrays(load(bytes(row.arrays))) if row else None


def keep(version: ModelVersion, unusual: Unusual, figures: dict[str, Any]) -> Familiar:
    """Keep it with the version in place of what was learnt before; workers use it within a minute."""
    return _keep(version, save(unusual.arrays()), figures)


def file_name(version: ModelVersion) -> str:
    return f"{version.modality}-{version.checksum[:8]}.safetensors"


def keep_file(version: ModelVersion, path: Path) -> Familiar:
    """Keep what `write_file` wrote. Raises ValueError for another file."""
    content = path.read_bytes()
    try:
        Unusual.from_arrays(load(content))
    except (SafetensorError, KeyError, IndexError) as error:
        raise ValueError(f"{path} doesn't hold what a version knows: {error}") from error
    return _keep(version, content, {"from": path.name})


def write_file(version: ModelVersion, path: Path) -> None:
    """Write what the version knows. Raises Familiar.DoesNotExist where that was not learnt."""
    path.write_bytes(bytes(Familiar.objects.get(version=version).arrays))


def _keep(version: ModelVersion, arrays: bytes, figures: dict[str, Any]) -> Familiar:
    return Familiar.objects.update_or_create(version=version, defaults={"arrays": arrays, "figures": figures})[0]
