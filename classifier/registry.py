"""Model versions: register an artifact, deploy it, choose one for a prediction, load it once per process."""

import json
import logging
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import DatabaseError, transaction

from classifier import artifact
from classifier.models import EnsembleRule, Modality, ModelVersion, Variant
from classifier.storage import StorageDown, storage_faults

if TYPE_CHECKING:
    from classifier.image import ImageModel
    from classifier.text import TextModel

log = logging.getLogger(__name__)

MODELS_IN_MEMORY = 4
_loading = threading.Lock()


class NothingDeployed(Exception):
    """No model version of a needed modality is deployed."""


def register(folder: Path, *, name: str) -> ModelVersion:
    """Verify an artifact folder, publish it in the storage "models" and return its row; the same folder twice is one.

    Raises artifact.ArtifactError for a folder that is corrupt, incomplete or not ours.
    """
    checksum = artifact.verify(folder)
    known = ModelVersion.objects.filter(checksum=checksum).first()
    if known:
        return known
    config = artifact.read_config(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    version = ModelVersion(
        modality=Modality(config["modality"]),
        name=name,
        checksum=checksum,
        accuracy=metrics["accuracy"],
        metrics=metrics,
    )
    storage = storages["models"]
    # The manifest goes last: a folder without one is incomplete and can't be verified.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == artifact.MANIFEST):
        storage.save(f"{version.path}/{path.name}", ContentFile(path.read_bytes()))
    version.save()
    return version


@transaction.atomic
def deploy(version: ModelVersion) -> Variant:
    """Give all traffic of the version's modality to it."""
    # The modality's versions are the lock: of two deployments at once the second comes after the first.
    list(ModelVersion.objects.select_for_update().filter(modality=version.modality).values_list("pk"))
    Variant.objects.filter(version__modality=version.modality).exclude(version=version).delete()
    variant, _created = Variant.objects.update_or_create(version=version, defaults={"weight": 100})
    return variant


def deployed() -> dict[str, list[Variant]]:
    """Return the variants of each modality, in a stable order."""
    variants: dict[str, list[Variant]] = {modality: [] for modality in Modality.values}
    for variant in Variant.objects.select_related("version").defer("version__metrics").order_by("pk"):
        variants[variant.version.modality].append(variant)
    return variants


def temperatures() -> dict[tuple[int, int], float]:
    """Return the ensemble temperature of each (text version, image version) pair that has one."""
    rules = EnsembleRule.objects.values_list("text_version_id", "image_version_id", "temperature")
    return {(text, image): temperature for text, image, temperature in rules}


def choose_variant(variants: Iterable[Variant], key: uuid.UUID) -> ModelVersion:
    """Return the version that serves `key`: by weight, and always the same one for the same key.

    Raises NothingDeployed when there is none.
    """
    candidates = list(variants)
    if not candidates:
        raise NothingDeployed("No model version is deployed; run `manage.py prepare`.")
    point = key.int % sum(variant.weight for variant in candidates)
    for variant in candidates:
        if point < variant.weight:
            return variant.version
        point -= variant.weight
    raise AssertionError("the weights cover every point")


def load_text(version: ModelVersion) -> "TextModel":
    with _loading:
        return _load_text(version.path, version.checksum)


def load_image(version: ModelVersion) -> "ImageModel":
    with _loading:
        return _load_image(version.path, version.checksum)


def load_deployed() -> None:
    """Load what is deployed, so that nobody waits for it. What can't be loaded now is tried when it is needed."""
    try:
        for variants in deployed().values():
            for variant in variants:
                load = load_text if variant.version.modality == Modality.TEXT else load_image
                load(variant.version)
    except (artifact.ArtifactError, StorageDown, OSError, DatabaseError) as error:
        log.warning("The deployed models could not be loaded yet: %s", type(error).__name__)


def fetch(path: str, checksum: str) -> Path:
    """Return a verified local copy of the artifact at `path` in the storage "models".

    A copy that went bad is fetched anew. Raises artifact.ArtifactError when the stored one is bad, and
    StorageDown or FileNotFoundError when it can't be had.
    """
    folder = settings.MODEL_CACHE / path
    try:
        artifact.verify(folder, checksum)
        return Path(folder)
    except artifact.ArtifactError:
        shutil.rmtree(folder, ignore_errors=True)
    storage = storages["models"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as temporary:
        fresh = Path(temporary) / "artifact"
        fresh.mkdir()
        with storage_faults():
            for name in storage.listdir(path)[1]:
                with storage.open(f"{path}/{name}") as file:
                    (fresh / Path(name).name).write_bytes(file.read())
        artifact.verify(fresh, checksum)
        try:
            fresh.rename(folder)
        except OSError:  # another process was quicker; its copy must be as good
            artifact.verify(folder, checksum)
    return Path(folder)


def _device() -> str | None:
    return None if settings.MODEL_DEVICE == "auto" else str(settings.MODEL_DEVICE)


@lru_cache(maxsize=MODELS_IN_MEMORY)
def _load_text(path: str, checksum: str) -> "TextModel":
    from classifier.text import TextModel

    return TextModel.load(fetch(path, checksum), device=_device())


@lru_cache(maxsize=MODELS_IN_MEMORY)
def _load_image(path: str, checksum: str) -> "ImageModel":
    from classifier.image import ImageModel

    return ImageModel.load(fetch(path, checksum), device=_device())
