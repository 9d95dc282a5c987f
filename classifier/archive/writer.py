"""Write and delete a prediction's files under its UUID in the storage "archive"."""

import json
import logging
import uuid
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage, storages

from classifier.modalities import MODALITIES
from classifier.models import ModelVersion, Prediction
from common.object_storage import storage_faults

log = logging.getLogger(__name__)


def archive_path(prediction: uuid.UUID, name: str) -> str:
    """Return the key of a file; the first two digits of the UUID spread the folders."""
    return f"{str(prediction)[:2]}/{prediction}/{name}"


def write_file(prediction: uuid.UUID, name: str, content: Any) -> None:
    """Write bytes as they are, anything else as JSON. Writing the same again changes nothing.

    Raises StorageDown.
    """
    data = content if isinstance(content, bytes) else json.dumps(content, indent=1, ensure_ascii=False).encode()
    with storage_faults():
        storages["archive"].save(archive_path(prediction, name), ContentFile(data))


def delete_files(prediction: uuid.UUID) -> int:
    """Delete all files of a prediction; return how many. Raises StorageDown."""
    storage, folder = storages["archive"], archive_path(prediction, "").rstrip("/")
    with storage_faults():
        try:
            names = storage.listdir(folder)[1]
        except FileNotFoundError:  # a file system raises it, an object storage lists nothing
            return 0
        for name in names:
            storage.delete(f"{folder}/{name}")
        storage.delete(folder)
    return len(names)


def archive_prediction(prediction: Prediction) -> None:
    """Write the input, the photo and the results of a finished prediction. Raises StorageDown."""
    # Its heavy columns were moved to the archive: writing now would replace their content by nothing.
    if prediction.probabilities == {}:
        return
    key = prediction.pk
    write_file(key, "input.json", _input(prediction))
    if prediction.photo_small:
        try:
            with storage_faults(), default_storage.open(prediction.photo_small) as file:
                photo = file.read()
        except FileNotFoundError:
            log.error("The photo of prediction %s is lost; the rest is archived.", key)
        else:
            write_file(key, "image.jpg", photo)
    for entry in MODALITIES.values():
        version = getattr(prediction, entry.version_column)
        if version:
            output = _model_output(prediction, version, getattr(prediction, entry.probabilities_column))
            write_file(key, entry.archive_file, output)
    # Written last: `slimming` takes this file as the sign that the archive is complete.
    write_file(key, "ensemble.json", _ensemble(prediction))


def _input(prediction: Prediction) -> dict[str, Any]:
    return {
        "id": str(prediction.pk),
        "seller": prediction.seller_id,
        "title": prediction.title,
        "description": prediction.description,
        "image": "image.jpg" if prediction.photo_small else None,
        "created_at": prediction.created_at.isoformat(),
    }


def _model_output(
    prediction: Prediction, version: ModelVersion, probabilities: dict[str, float] | None
) -> dict[str, Any]:
    record = (prediction.passes or {}).get(version.modality, {})
    return {
        "version": version.name,
        "checksum": version.checksum,
        "accuracy": version.accuracy,
        "engine": record.get("engine"),
        "milliseconds": record.get("ms"),
        "probabilities": probabilities,
    }


def _ensemble(prediction: Prediction) -> dict[str, Any]:
    return {
        "state": prediction.state,
        "error": prediction.error or None,
        "ensemble": prediction.ensemble,
        "probabilities": prediction.probabilities,
        "top5": prediction.top5,
        "unusual": prediction.unusual or None,
        "milliseconds": prediction.milliseconds,
        "finished_at": prediction.finished_at.isoformat() if prediction.finished_at else None,
    }
