"""Store, load and exchange the out-of-distribution detector of each model version."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from classifier.ml.out_of_distribution import CentroidDetector
from classifier.models import DistributionDetector, ModelVersion


def read_detector(version: ModelVersion) -> CentroidDetector | None:
    """Return the version's detector; None where none has been fitted."""
    row = DistributionDetector.objects.filter(version=version).first()
    return CentroidDetector.from_arrays(load(bytes(row.arrays))) if row else None


def store_detector(version: ModelVersion, detector: CentroidDetector, figures: dict[str, Any]) -> DistributionDetector:
    """Store a detector in place of the version's earlier one; workers use it within a minute."""
    return _store(version, save(detector.arrays()), figures)


def detector_file_name(version: ModelVersion) -> str:
    """Return the name under which `export_detector` files are kept."""
    return f"{version.modality}-{version.checksum[:8]}.safetensors"


def import_detector(version: ModelVersion, path: Path) -> DistributionDetector:
    """Store the detector that `export_detector` wrote. Raises ValueError for another file."""
    # Parsed before it is stored, so that workers never meet a file that they can't read.
    content = path.read_bytes()
    try:
        CentroidDetector.from_arrays(load(content))
    except (SafetensorError, KeyError, IndexError) as error:
        raise ValueError(f"{path} doesn't hold a detector: {error}") from error
    return _store(version, content, {"from": path.name})


def export_detector(version: ModelVersion, path: Path) -> None:
    """Write the version's detector to a file. Raises DistributionDetector.DoesNotExist where none has been fitted."""
    path.write_bytes(bytes(DistributionDetector.objects.get(version=version).arrays))


def _store(version: ModelVersion, arrays: bytes, figures: dict[str, Any]) -> DistributionDetector:
    return DistributionDetector.objects.update_or_create(
        version=version, defaults={"arrays": arrays, "figures": figures}
    )[0]
