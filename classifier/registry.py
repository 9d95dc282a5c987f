"""Model versions: register an artifact, deploy it, take that back, choose one for a prediction."""

import logging
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from classifier import artifact, ensemble, published
from classifier.models import Deployment, EnsembleRule, Modality, ModelVersion, Variant

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


log = logging.getLogger(__name__)


class NothingDeployed(Exception):
    """No model version of a needed modality is deployed."""


class NotDeployable(Exception):
    """A version that must not serve; the message says why."""


class NothingToRollBack(Exception):
    """No earlier deployment is known."""


def register(
    folder: Path,
    *,
    name: str,
    state: str = ModelVersion.State.REGISTERED,
    reason: str = "",
    parent: ModelVersion | None = None,
    lineage: dict[str, Any] | None = None,
) -> ModelVersion:
    """Verify an artifact folder, publish it in the storage "models" and return its row; the same folder twice is one.

    Every file is read back from the storage before the manifest, which makes the folder complete, goes there; the row
    is written last. What an attempt that was cut short left behind is replaced. Raises ArtifactError for a folder that
    is corrupt, incomplete or not ours, or that the storage gives back changed, and StorageDown; nothing is registered
    then.
    """
    checksum = artifact.verify(folder)
    known = ModelVersion.objects.filter(checksum=checksum).first()
    if known:
        return known
    metrics = artifact.read_metrics(folder)
    version = ModelVersion(
        modality=Modality(artifact.read_config(folder)["modality"]),
        name=name,
        checksum=checksum,
        accuracy=metrics["accuracy"],
        metrics=metrics,
        state=state,
        reason=reason,
        parent=parent,
        lineage=lineage or {},
    )
    published.publish(folder, version)
    try:
        with transaction.atomic():
            version.save()
    except IntegrityError:  # another process registered the same folder meanwhile
        known = ModelVersion.objects.filter(checksum=checksum).first()
        if known is None:
            raise
        return known
    return version


def deploy(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    in_place_of: ModelVersion | EllipsisType | None = ...,
) -> Variant:
    """Give all traffic of the version's modality to it, after hashing its stored files again.

    Deploying what serves alone already changes nothing. Raises NotDeployable for a rejected version and when another
    than `in_place_of` serves by now, ArtifactError for one whose stored artifact is corrupt or incomplete, and
    StorageDown; what serves goes on serving then.
    """
    if version.state == ModelVersion.State.REJECTED:
        raise NotDeployable(
            _("%(version)s was rejected and can't be deployed. %(reason)s")
            % {"version": version, "reason": version.reason}
        )
    published.verify_stored(version)
    return _switch(version, by=by, note=note, is_rollback=False, in_place_of=in_place_of)


def roll_back(
    modality: str, *, by: "AbstractBaseUser | None" = None, in_place_of: ModelVersion | EllipsisType | None = ...
) -> Variant:
    """Deploy again what served before the present version; once more goes one further back.

    Raises NothingToRollBack when there is nothing before it, and what `deploy` raises.
    """
    serving = champion(modality) if in_place_of is ... else in_place_of
    before = previous(modality)
    if before is None:
        raise NothingToRollBack(
            _("There is nothing to go back to: no earlier %(modality)s model was deployed.") % {"modality": modality}
        )
    published.verify_stored(before)
    return _switch(before, by=by, note="", is_rollback=True, in_place_of=serving)


def previous(modality: str) -> ModelVersion | None:
    """Return the version that a roll-back would deploy."""
    stack: list[int] = []
    for version, is_rollback in (
        Deployment.objects.filter(modality=modality).order_by("pk").values_list("version", "is_rollback")
    ):
        if is_rollback and stack:
            stack.pop()
        if not stack or stack[-1] != version:
            stack.append(version)
    return ModelVersion.objects.get(pk=stack[-2]) if len(stack) > 1 else None


def replaced_by(version: ModelVersion) -> ModelVersion | None:
    """Return the version that this one replaced when it was deployed last."""
    deployment = Deployment.objects.filter(version=version).select_related("replaced").first()
    return deployment.replaced if deployment else None


def champion(modality: str) -> ModelVersion | None:
    """Return the version that answers most of the modality's traffic."""
    variant = Variant.objects.filter(version__modality=modality).order_by("-weight", "pk").first()
    return variant.version if variant else None


def find(name: str) -> ModelVersion:
    """Return the version with this id, name, "modality name", or beginning of a checksum (8 digits or more).

    Raises ModelVersion.DoesNotExist when none or several have it; the message says which.
    """
    versions = ModelVersion.objects.all()
    modality, _space, rest = name.partition(" ")
    found = list(versions.filter(pk=int(name))[:2]) if name.isdecimal() and len(name) < 10 else []
    found = found or list(versions.filter(name=name)[:3])
    if not found and modality in Modality.values:
        found = list(versions.filter(modality=modality, name=rest)[:2])
    if not found and len(name) >= 8:
        found = list(versions.filter(checksum__startswith=name.lower())[:3])
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{version.pk} ({version})" for version in found)
        raise ModelVersion.DoesNotExist(_("Several versions are called so: %(names)s. Give an id.") % {"names": names})
    raise ModelVersion.DoesNotExist(_("There is no model version %(name)s: see `models list`.") % {"name": name})


def deployed() -> dict[str, list[Variant]]:
    """Return the variants of each modality, in a stable order."""
    variants: dict[str, list[Variant]] = {modality: [] for modality in Modality.values}
    for variant in Variant.objects.select_related("version").defer("version__metrics").order_by("pk"):
        variants[variant.version.modality].append(variant)
    return variants


def rules() -> dict[tuple[int, int], ensemble.Rule]:
    """Return the rule of each (text version, image version) pair that has a usable one."""
    usable = {}
    for row in EnsembleRule.objects.select_related("text_version", "image_version").defer(
        "metrics", "text_version__metrics", "image_version__metrics"
    ):
        try:
            usable[row.text_version_id, row.image_version_id] = row.rule()
        except ValueError as error:
            log.error("The rule of %s is unusable: %s", row, error)
    return usable


def pairs_without_rule() -> list[tuple[ModelVersion, ModelVersion]]:
    """Return the deployed pairs (text, image) that answer by the plain mean, for no rule was fitted for them."""
    known = rules()
    variants = deployed()
    pairs = [(text.version, image.version) for text in variants["text"] for image in variants["image"]]
    return [(text, image) for text, image in pairs if (text.pk, image.pk) not in known]


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


@transaction.atomic
def _switch(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None",
    note: str,
    is_rollback: bool,
    in_place_of: ModelVersion | EllipsisType | None,
) -> Variant:
    # The modality's versions are the lock: of two deployments at once the second comes after the first.
    list(ModelVersion.objects.select_for_update().filter(modality=version.modality).order_by("pk").values_list("pk"))
    serving = list(Variant.objects.filter(version__modality=version.modality).order_by("-weight", "pk"))
    if [variant.version_id for variant in serving] == [version.pk]:
        Variant.objects.filter(pk=serving[0].pk).update(weight=100)
        return serving[0]
    expected = in_place_of.pk if isinstance(in_place_of, ModelVersion) else None
    if in_place_of is not ... and expected != (serving[0].version_id if serving else None):
        raise NotDeployable(
            _("Another version was deployed meanwhile: %(version)s. Look again.")
            % {"version": serving[0].version if serving else _("none")}
        )
    others = [variant for variant in serving if variant.version_id != version.pk]
    Variant.objects.filter(version__modality=version.modality).delete()
    Deployment.objects.create(
        modality=version.modality,
        version=version,
        replaced_id=others[0].version_id if others else None,
        is_rollback=is_rollback,
        deployed_by_id=by.pk if by else None,
        note=note,
    )
    return Variant.objects.create(version=version, weight=100)
