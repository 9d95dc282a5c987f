"""Register model versions and look them up."""

from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from classifier.ml import artifact
from classifier.models import Modality, ModelVersion
from classifier.registry import artifact_store

ID_DIGITS = 9  # a longer number is no id, but may begin a checksum
CHECKSUM_DIGITS = 8


def register_version(
    folder: Path,
    *,
    name: str,
    state: str = ModelVersion.State.REGISTERED,
    reason: str = "",
    parent: ModelVersion | None = None,
    lineage: dict[str, Any] | None = None,
    gate: dict[str, Any] | None = None,
) -> ModelVersion:
    """Verify an artifact folder, publish it in the storage "models" and return its row.

    Registering the same folder twice returns the same row. What an interrupted attempt left in the storage is replaced.
    Raises ArtifactError for a folder that is corrupt, incomplete or of another format, or that the storage returns
    changed, and StorageDown; nothing is registered then.
    """
    # Hashed again even if it was sealed a moment ago: the checksum is the version's identity.
    checksum = artifact.verify_artifact(folder)
    known = ModelVersion.objects.filter(checksum=checksum).first()
    if known:
        return known
    metrics, config = artifact.read_metrics(folder), artifact.read_config(folder)
    version = ModelVersion(
        modality=Modality(config["modality"]),
        name=name,
        checksum=checksum,
        accuracy=metrics["accuracy"],
        metrics=metrics,
        labels=config["labels"],
        gate=gate or {},
        state=state,
        reason=reason,
        parent=parent,
        lineage=lineage or {},
    )
    # The row comes after the files: a version that has a row can always be loaded.
    artifact_store.publish_artifact(folder, version)
    try:
        with transaction.atomic():
            version.save()
    except IntegrityError:  # another process has registered the same folder
        known = ModelVersion.objects.filter(checksum=checksum).first()
        if known is None:
            raise
        return known
    return version


def find_version(name: str) -> ModelVersion:
    """Return the version with this id, name, "modality name", or beginning of a checksum (8 digits or more).

    Raises ModelVersion.DoesNotExist when no version or several versions match; the message says which.
    """
    found = _matching(name)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{version.pk} ({version})" for version in found)
        raise ModelVersion.DoesNotExist(_("Several versions match: %(names)s. Give an id.") % {"names": names})
    raise ModelVersion.DoesNotExist(_("There is no model version %(name)s: see `models list`.") % {"name": name})


def _matching(name: str) -> list[ModelVersion]:
    versions = ModelVersion.objects.all()
    found: list[ModelVersion] = []
    if name.isdecimal() and len(name) <= ID_DIGITS:
        found = list(versions.filter(pk=int(name)))
    if not found:
        found = list(versions.filter(name=name)[:3])
    if not found:
        modality, _space, rest = name.partition(" ")
        found = list(versions.filter(modality=modality, name=rest)[:3])
    if not found and len(name) >= CHECKSUM_DIGITS:
        found = list(versions.filter(checksum__startswith=name.lower())[:3])
    return found


def version_name(pk: int) -> str:
    """Return the name of the version with this id, or the id where the version was deleted."""
    return str(ModelVersion.objects.filter(pk=pk).defer("metrics").first() or pk)


def read_labels(version: ModelVersion) -> list[str]:
    """Return the slugs that a version can suggest, from its stored artifact where the row has none.

    Raises ArtifactError for an artifact without labels, and StorageDown.
    """
    if not version.labels:
        version.labels = artifact_store.read_stored_config(version)["labels"]
        ModelVersion.objects.filter(pk=version.pk).update(labels=version.labels)
    return list(version.labels)
