"""Models in memory: load a deployed version once per process, and what stands in for one that can't be loaded."""

import logging
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.db import DatabaseError

from classifier import published, registry
from classifier.artifact import ArtifactError
from classifier.models import Modality, ModelVersion
from classifier.storage import StorageDown

if TYPE_CHECKING:
    from classifier.image import ImageModel
    from classifier.text import TextModel

log = logging.getLogger(__name__)

MODELS_IN_MEMORY = 4
BROKEN_FOR = 30.0  # seconds before a version that could not be loaded is tried again
_loading = threading.Lock()
_broken: dict[str, float] = {}  # checksum -> until when (monotonic) its predecessor answers without another try


def load_text(version: ModelVersion) -> "TextModel":
    """Return the version's model. Raises ArtifactError when it can't be used and StorageDown when it can't be had."""
    with _loading:
        return _load_text(version.path, version.checksum)


def load_image(version: ModelVersion) -> "ImageModel":
    """Return the version's model. Raises ArtifactError when it can't be used and StorageDown when it can't be had."""
    with _loading:
        return _load_image(version.path, version.checksum)


def standing(version: ModelVersion) -> ModelVersion:
    """Return the version if it can be loaded, else the nearest one that it replaced and that can be.

    A version that went bad after its deployment must not keep sellers waiting. It is tried again every half minute.
    Raises what the version itself raises when no predecessor can be loaded either.
    """
    candidate, reason, seen = version, None, set()
    while candidate.pk not in seen:
        seen.add(candidate.pk)
        try:
            _try(candidate)
            return candidate
        except (ArtifactError, StorageDown) as error:
            reason = reason or error
            candidate = registry.replaced_by(candidate) or version
    raise reason or registry.NothingDeployed(str(version))


def load_deployed() -> None:
    """Load what is deployed, so that nobody waits for it. What can't be loaded now is tried when it is needed."""
    try:
        for variants in registry.deployed().values():
            for variant in variants:
                standing(variant.version)
    except (ArtifactError, StorageDown, OSError, DatabaseError) as error:
        log.warning("The deployed models could not be loaded yet: %s", type(error).__name__)


def _try(version: ModelVersion) -> None:
    """Load the version, or raise why not; what failed a moment ago fails at once."""
    if _broken.get(version.checksum, 0.0) > time.monotonic():
        raise ArtifactError(f"{version} could not be loaded a moment ago")
    try:
        (load_text if version.modality == Modality.TEXT else load_image)(version)
    except (ArtifactError, StorageDown) as error:
        before = registry.replaced_by(version)
        if before:  # with nobody to answer in its place, it is tried again at once
            log.error("%s is deployed but can't be loaded (%s); trying %s in its place.", version, error, before)
            _broken[version.checksum] = time.monotonic() + BROKEN_FOR
        raise
    _broken.pop(version.checksum, None)


def _device() -> str | None:
    return None if settings.MODEL_DEVICE == "auto" else str(settings.MODEL_DEVICE)


@lru_cache(maxsize=MODELS_IN_MEMORY)
def _load_text(path: str, checksum: str) -> "TextModel":
    from classifier.text import TextModel

    return cast(TextModel, _loaded(TextModel, path, checksum))


@lru_cache(maxsize=MODELS_IN_MEMORY)
def _load_image(path: str, checksum: str) -> "ImageModel":
    from classifier.image import ImageModel

    return cast(ImageModel, _loaded(ImageModel, path, checksum))


def _loaded(kind: Any, path: str, checksum: str) -> Any:
    folder = published.fetch(path, checksum)
    try:
        return kind.load(folder, device=_device())
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # weights that don't fit their config, say
        raise ArtifactError(f"{path} can't be loaded: {type(error).__name__}: {error}") from error
