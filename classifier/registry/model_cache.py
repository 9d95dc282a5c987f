"""Keep loaded models in memory: each version once per process, and a fallback for one that can't be loaded."""

import logging
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.db import DatabaseError
from safetensors import SafetensorError

from classifier.ml.artifact import ArtifactError
from classifier.modalities import MODALITIES
from classifier.models import ModelVersion, Variant
from classifier.registry import artifact_store, deployments, detector_store, traffic
from common.object_storage import StorageDown

if TYPE_CHECKING:
    from classifier.ml.classifier import Classifier
    from classifier.ml.out_of_distribution import CentroidDetector

log = logging.getLogger(__name__)

SPARE = 1  # models of each modality that stay loaded beside the deployed ones, for a roll-back
BROKEN_FOR = 30.0  # seconds before a version that could not be loaded is tried again
DETECTOR_MAX_AGE = 60.0  # seconds before a version's detector is read again: it may have been fitted since


class ModelKey(NamedTuple):
    """What identifies a loaded model: the same version computed by other engines is another model."""

    path: str
    checksum: str
    engines: tuple[str, ...]


class CachedDetector(NamedTuple):
    expires_at: float  # monotonic
    detector: "CentroidDetector | None"


_loading = threading.Lock()
_models: "dict[ModelKey, Classifier]" = {}  # in the order in which they were loaded
_detectors: dict[str, CachedDetector] = {}  # by checksum
_broken: dict[str, float] = {}  # checksum -> until when (monotonic) its fallback answers without another try


def load_model(version: ModelVersion) -> "Classifier":
    """Return the version's model, loaded at most once per process.

    Raises ArtifactError when the artifact is unusable and StorageDown when it can't be fetched.
    """
    from classifier.ml import engines
    from classifier.ml.encoders import pick_device

    device = pick_device(device_name())
    # The row holds how this version's engines were measured, and so which of them may compute it.
    names = engines.engine_candidates(settings.ENGINE, settings.ENGINE_PRECISION, device, version.engines)
    key = ModelKey(version.path, version.checksum, names)
    # Read without the lock first: nearly every call finds the model, and must not wait while another one loads.
    model = _models.get(key)
    if model is None:
        with _loading:
            if key not in _models:
                _models[key] = load_uncached(version, names)
                _unload_unused(version.modality, key)
            model = _models[key]
    return model


def load_uncached(version: ModelVersion, names: tuple[str, ...]) -> "Classifier":
    """Load the version's model, computed by the first of the named engines that works, else by the reference.

    Raises ArtifactError and StorageDown.
    """
    from classifier.ml import engines

    folder = artifact_store.fetch_artifact(version.path, version.checksum)
    try:
        model = MODALITIES[version.modality].load(folder, device=device_name())
    # Turned into ArtifactError, for which `load_or_fall_back` finds another version.
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # such as weights that don't fit their config
        raise ArtifactError(f"{version.path} can't be loaded: {type(error).__name__}: {error}") from error
    engines.select_engine(model.encoder, names, threads=_threads(), cache=settings.MODEL_CACHE / "engines")
    log.info("%s is computed by %s.", version, model.engine)
    return model


def load_or_fall_back(version: ModelVersion) -> ModelVersion:
    """Return the version if it can be loaded, else the nearest version that it replaced and that can be.

    A version whose files are damaged after its deployment must not keep sellers waiting. It is tried again every half
    minute. Raises what the version itself raises when no earlier version can be loaded either.
    """
    candidate, reason, seen = version, None, set()
    while candidate.pk not in seen:
        # Deployments may form a circle, as two versions can replace each other in turn.
        seen.add(candidate.pk)
        try:
            _load_unless_broken(candidate)
            _refresh_detector(candidate)
            return candidate
        except (ArtifactError, StorageDown) as error:
            reason = reason or error
            candidate = deployments.replaced_version(candidate) or version
    raise reason or traffic.NothingDeployed(str(version))


def load_live_models() -> None:
    """Load the live versions, so that no product waits for that; one that can't be loaded is tried when needed."""
    try:
        for variants in traffic.live_variants_by_modality().values():
            for variant in variants:
                load_or_fall_back(variant.version)
        _limit_torch()
    except (ArtifactError, StorageDown, OSError, DatabaseError) as error:
        log.warning("The live models could not be loaded yet: %s", type(error).__name__)


def cached_detector(version: ModelVersion) -> "CentroidDetector | None":
    """Return the out-of-distribution detector of a loaded version; None where none has been fitted."""
    cached = _detectors.get(version.checksum)
    return cached.detector if cached else None


def unload_all() -> None:
    """Remove every model and detector from memory."""
    with _loading:
        _models.clear()
        _detectors.clear()


def device_name() -> str | None:
    """Return the device on which models are loaded; None is the GPU if there is one."""
    if settings.MODEL_DEVICE == "auto":
        return "cpu" if settings.ENGINE == "openvino" else None
    return str(settings.MODEL_DEVICE)


def _load_unless_broken(version: ModelVersion) -> None:
    # Trying costs seconds; a version that failed a moment ago fails at once.
    if _broken.get(version.checksum, 0.0) > time.monotonic():
        raise ArtifactError(f"{version} could not be loaded a moment ago")
    try:
        load_model(version)
    except (ArtifactError, StorageDown) as error:
        before = deployments.replaced_version(version)
        if before:  # without a fallback every call tries again
            log.error("%s is deployed but can't be loaded (%s); trying %s in its place.", version, error, before)
            _broken[version.checksum] = time.monotonic() + BROKEN_FOR
        raise
    _broken.pop(version.checksum, None)


def _refresh_detector(version: ModelVersion) -> None:
    """Read the version's detector again when it is old. One that can't be read flags nothing and stops no answer."""
    cached = _detectors.get(version.checksum)
    if cached and cached.expires_at > time.monotonic():
        return
    try:
        detector = detector_store.read_detector(version)
    except (SafetensorError, LookupError, ValueError):
        log.exception("The out-of-distribution detector of %s can't be read.", version)
        detector = None
    _detectors[version.checksum] = CachedDetector(time.monotonic() + DETECTOR_MAX_AGE, detector)


def _unload_unused(modality: str, newest: ModelKey) -> None:
    """Keep the versions in use and, of the others, those loaded last."""
    in_use = set(Variant.objects.filter(version__modality=modality).values_list("version__checksum", flat=True))
    loaded = [key for key in _models if key.path.startswith(f"{modality}/")]
    stale = [key for key in loaded if key.checksum == newest.checksum and key != newest]  # by another engine
    spare = [key for key in loaded if key.checksum not in in_use and key not in stale]
    for key in [*stale, *spare[:-SPARE]]:
        del _models[key]
        _detectors.pop(key.checksum, None)


def _threads() -> int:
    from classifier.ml.engines import usable_cores

    return int(settings.ENGINE_THREADS) or usable_cores()


def _limit_torch() -> None:
    """Keep torch to one thread where another engine computes the encoders.

    What is left to torch then is too small to be split over all cores, and other workers need those.
    """
    import torch

    uses_torch = any(model.engine.startswith("torch") for model in _models.values())
    torch.set_num_threads(_threads() if uses_torch else 1)
