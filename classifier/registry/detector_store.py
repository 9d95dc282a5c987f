"""What each version has learnt to know, kept beside it: who asks about something else is told so."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from classifier.ml.out_of_distribution import CentroidDetector
from classifier.models import DistributionDetector, ModelVersion


def read_detector(version: ModelVersion) -> CentroidDetector | None:
    """Return what tells the version's unusual inputs; None where that was not learnt yet."""
    row = DistributionDetector.objects.filter(version=version).first()
    return CentroidDetector.from_arrays(load(bytes(row.arrays))) if row else None


def store_detector(version: ModelVersion, unusual: CentroidDetector, figures: dict[str, Any]) -> DistributionDetector:
    """Keep it with the version in place of what was learnt before; workers use it within a minute."""
    return _keep(version, save(unusual.arrays()), figures)


def detector_file_name(version: ModelVersion) -> str:
    return f"{version.modality}-{version.checksum[:8]}.safetensors"


def import_detector(version: ModelVersion, path: Path) -> DistributionDetector:
    """Keep what `export_detector` wrote. Raises ValueError for another file."""
    content = path.read_bytes()
    try:
        CentroidDetector.from_arrays(load(content))
    except (SafetensorError, KeyError, IndexError) as error:
        raise ValueError(f"{path} doesn't hold what a version knows: {error}") from error
    return _keep(version, content, {"from": path.name})


def export_detector(version: ModelVersion, path: Path) -> None:
    """Write what the version knows. Raises DistributionDetector.DoesNotExist where that was not learnt."""
    path.write_bytes(bytes(DistributionDetector.objects.get(version=version).arrays))


def _keep(version: ModelVersion, arrays: bytes, figures: dict[str, Any]) -> DistributionDetector:
    return DistributionDetector.objects.update_or_create(
        version=version, defaults={"arrays": arrays, "figures": figures}
    )[0]
