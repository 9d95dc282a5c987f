"""Models in memory: load a deployed version once per process, and what stands in for one that can't be loaded."""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.db import DatabaseError
from safetensors import SafetensorError

from classifier.ml.artifact import ArtifactError
from classifier.models import Modality, ModelVersion, Variant
from classifier.registry import artifact_store, deployments, detector_store, traffic
from common.object_storage import StorageDown

if TYPE_CHECKING:
    from classifier.ml.image_model import ImageModel
    from classifier.ml.out_of_distribution import CentroidDetector
    from classifier.ml.text_model import TextModel

log = logging.getLogger(__name__)

SPARE = 1  # models of each modality that stay loaded beside the deployed ones: for a roll-back, say
BROKEN_FOR = 30.0  # seconds before a version that could not be loaded is tried again
LOOK_AGAIN = 60.0  # seconds after which what a version is familiar with is read again: it may have learnt
_loading = threading.Lock()
_models: dict[tuple[str, str, tuple[str, ...]], Any] = {}  # (path, checksum, engines) -> model, as loaded
_unusual: dict[str, "tuple[float, CentroidDetector | None]"] = {}  # checksum -> when to look again, and what was read
_broken: dict[str, float] = {}  # checksum -> until when (monotonic) its predecessor answers without another try


def load_text(version: ModelVersion) -> "TextModel":
    """Return the version's model. Raises ArtifactError when it can't be used and StorageDown when it can't be had."""
    return cast("TextModel", _load(version))


def load_image(version: ModelVersion) -> "ImageModel":
    """Return the version's model. Raises ArtifactError when it can't be used and StorageDown when it can't be had."""
    return cast("ImageModel", _load(version))


def cached_detector(version: ModelVersion) -> "CentroidDetector | None":
    """Return what tells inputs unlike all that a standing version has learnt; None where that is not known."""
    return _unusual.get(version.checksum, (0.0, None))[1]


def unload_all() -> None:
    """Forget every model."""
    with _loading:
        _models.clear()
        _unusual.clear()


def load_or_fall_back(version: ModelVersion) -> ModelVersion:
    """Return the version if it can be loaded, else the nearest one that it replaced and that can be.

    A version that went bad after its deployment must not keep sellers waiting. It is tried again every half minute.
    Raises what the version itself raises when no predecessor can be loaded either.
    """
    candidate, reason, seen = version, None, set()
    while candidate.pk not in seen:
        seen.add(candidate.pk)
        try:
            _try(candidate)
            _read_familiar(candidate)
            return candidate
        except (ArtifactError, StorageDown) as error:
            reason = reason or error
            candidate = deployments.replaced_version(candidate) or version
    raise reason or traffic.NothingDeployed(str(version))


def load_live_models() -> None:
    """Load what is deployed, so that nobody waits for it. What can't be loaded now is tried when it is needed."""
    try:
        for variants in traffic.live_variants_by_modality().values():
            for variant in variants:
                load_or_fall_back(variant.version)
        _limit_torch()
    except (ArtifactError, StorageDown, OSError, DatabaseError) as error:
        log.warning("The deployed models could not be loaded yet: %s", type(error).__name__)


def _try(version: ModelVersion) -> None:
    """Load the version, or raise why not; what failed a moment ago fails at once."""
    if _broken.get(version.checksum, 0.0) > time.monotonic():
        raise ArtifactError(f"{version} could not be loaded a moment ago")
    try:
        (load_text if version.modality == Modality.TEXT else load_image)(version)
    except (ArtifactError, StorageDown) as error:
        before = deployments.replaced_version(version)
        if before:  # with nobody to answer in its place, it is tried again at once
            log.error("%s is deployed but can't be loaded (%s); trying %s in its place.", version, error, before)
            _broken[version.checksum] = time.monotonic() + BROKEN_FOR
        raise
    _broken.pop(version.checksum, None)


def _read_familiar(version: ModelVersion) -> None:
    """Read what the version knows; what can't be read flags nothing, and keeps nobody from an answer."""
    if _unusual.get(version.checksum, (0.0, None))[0] > time.monotonic():
        return
    try:
        known = detector_store.read_detector(version)
    except (SafetensorError, LookupError, ValueError):
        log.exception("What %s is familiar with can't be read.", version)
        known = None
    _unusual[version.checksum] = time.monotonic() + LOOK_AGAIN, known


def _load(version: ModelVersion) -> Any:
    """Return the version's model; what was measured of its engines, in the row, says which of them may compute it."""
    from classifier.ml import engines
    from classifier.ml.encoders import pick_device

    device = pick_device(device_name())
    names = engines.engine_candidates(settings.ENGINE, settings.ENGINE_PRECISION, device, version.engines)
    key = (version.path, version.checksum, names)
    model = _models.get(key)
    if model is None:
        with _loading:
            if key not in _models:
                _models[key] = load_uncached(version, names)
                _unload_unused(version.modality, key)
            model = _models[key]
    return model


def load_uncached(version: ModelVersion, names: tuple[str, ...]) -> Any:
    """Return the version's model anew, computed by the first of the named engines that can be had, else the reference.

    Raises ArtifactError and StorageDown.
    """
    from classifier.ml import engines
    from classifier.ml.image_model import ImageModel
    from classifier.ml.text_model import TextModel

    folder = artifact_store.fetch_artifact(version.path, version.checksum)
    kind: Any = TextModel if version.modality == Modality.TEXT else ImageModel
    try:
        model = kind.load(folder, device=device_name())
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # weights that don't fit their config, say
        raise ArtifactError(f"{version.path} can't be loaded: {type(error).__name__}: {error}") from error
    engines.select_engine(model.encoder, names, threads=_threads(), cache=settings.MODEL_CACHE / "engines")
    log.info("%s is computed by %s.", version, model.engine)
    return model


def _unload_unused(modality: str, newest: tuple[str, str, tuple[str, ...]]) -> None:
    """Keep what is deployed, and of the rest what was loaded last."""
    deployed = set(Variant.objects.filter(version__modality=modality).values_list("version__checksum", flat=True))
    loaded = [key for key in _models if key[0].startswith(f"{modality}/")]
    stale = [key for key in loaded if key[1] == newest[1] and key != newest]  # the same version by another engine
    spare = [key for key in loaded if key[1] not in deployed and key not in stale]
    for key in [*stale, *spare[:-SPARE]]:
        del _models[key]
        _unusual.pop(key[1], None)


def device_name() -> str | None:
    """Return where models are loaded; None is the GPU if there is one."""
    if settings.MODEL_DEVICE == "auto":
        return "cpu" if settings.ENGINE == "openvino" else None
    return str(settings.MODEL_DEVICE)


def _threads() -> int:
    from classifier.ml.engines import usable_cores

    return int(settings.ENGINE_THREADS) or usable_cores()


def _limit_torch() -> None:
    """Keep torch from splitting over all cores what is too small for it, or what another worker's cores are for."""
    import torch

    torch.set_num_threads(_threads() if any(model.engine.startswith("torch") for model in _models.values()) else 1)
