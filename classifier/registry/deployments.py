"""Model versions: register an artifact, deploy it, take that back, choose one for a prediction."""

import hashlib
import logging
import math
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from classifier.evaluation.category_coverage import coverage_of, name_list
from classifier.ml import artifact
from classifier.models import Deployment, Modality, ModelVersion, Variant
from classifier.registry import artifact_store, ensemble_rules

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


log = logging.getLogger(__name__)

# What answering a batch doesn't need of a variant's version.
DEFERRED = tuple(f"version__{name}" for name in ensemble_rules.HEAVY)

# The changes that give one version all traffic: those that a roll-back takes back.
WHOLE = (Deployment.Kind.DEPLOYMENT, Deployment.Kind.PROMOTION, Deployment.Kind.ROLLBACK)


class NothingDeployed(Exception):
    """No model version of a needed modality is deployed."""


class NotDeployable(Exception):
    """A version that must not serve; the message says why."""


class CategoryLoss(NotDeployable):
    """A version that can't suggest active categories which the serving one suggests."""


class NothingToRollBack(Exception):
    """No earlier deployment is known."""


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
    """Verify an artifact folder, publish it in the storage "models" and return its row; the same folder twice is one.

    Every file is read back from the storage before the manifest, which makes the folder complete, goes there; the row
    is written last. What an attempt that was cut short left behind is replaced. Raises ArtifactError for a folder that
    is corrupt, incomplete or not ours, or that the storage gives back changed, and StorageDown; nothing is registered
    then.
    """
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
    artifact_store.publish_artifact(folder, version)
    try:
        with transaction.atomic():
            version.save()
    except IntegrityError:  # another process registered the same folder meanwhile
        known = ModelVersion.objects.filter(checksum=checksum).first()
        if known is None:
            raise
        return known
    return version


def deploy_version(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    in_place_of: ModelVersion | EllipsisType | None = ...,
    ends_test: bool = True,
    accepts_loss: bool = False,
) -> Variant:
    """Give all traffic of the version's modality to it, after hashing its stored files again; a test ends.

    Deploying what serves alone already changes nothing. Raises NotDeployable for a rejected version, when another than
    `in_place_of` serves by now, and while a test runs unless `ends_test`; CategoryLoss for one that can't suggest
    what the serving one suggests, unless `accepts_loss`; ArtifactError for one whose stored artifact is corrupt or
    incomplete, and StorageDown; what serves goes on serving then.
    """
    refuse_rejected(version)
    if not accepts_loss:
        refuse_category_loss(version)
    artifact_store.verify_stored(version)
    kind = Deployment.Kind.DEPLOYMENT
    return _switch(
        version,
        by=by,
        note=note,
        kind=kind,
        in_place_of=in_place_of,
        ends_test=ends_test,
        accepts_loss=accepts_loss,
    )


def refuse_rejected(version: ModelVersion) -> None:
    """Raise NotDeployable for a version that the gate rejected."""
    if version.state == ModelVersion.State.REJECTED:
        raise NotDeployable(
            _("%(version)s was rejected and can't be deployed. %(reason)s")
            % {"version": version, "reason": version.reason}
        )


def read_labels(version: ModelVersion) -> list[str]:
    """Return the slugs that a version can suggest, from its stored artifact where the row doesn't tell them.

    Raises ArtifactError for an artifact that doesn't tell them either, and StorageDown.
    """
    if not version.labels:
        version.labels = artifact_store.read_stored_config(version)["labels"]
        ModelVersion.objects.filter(pk=version.pk).update(labels=version.labels)
    return list(version.labels)


def served_labels(modality: str, *, besides: ModelVersion | None = None) -> set[str]:
    """Return the slugs that the live versions of a modality, but for one, suggest. Raises as `read_labels` does."""
    versions = [variant.version for variant in live_variants(modality) if variant.version != besides]
    return {label for version in versions for label in read_labels(version)}


def refuse_category_loss(version: ModelVersion) -> None:
    """Raise CategoryLoss for a version that can't suggest active categories which live versions suggest."""
    lost = coverage_of(read_labels(version), before=served_labels(version.modality, besides=version)).lost
    if lost:
        raise CategoryLoss(
            _("%(version)s can't suggest %(count)d categories that the live model suggests: %(names)s.")
            % {"version": version, "count": len(lost), "names": name_list(lost.values())}
        )


def roll_back(
    modality: str,
    *,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    in_place_of: ModelVersion | EllipsisType | None = ...,
) -> Variant:
    """Deploy again what had all traffic before the present version; once more goes one further back. A test ends.

    Categories that only the present version knows don't stop it: going back is the way out of an emergency.

    Raises NothingToRollBack when there is nothing before it, and what `deploy_version` raises.
    """
    serving = current_champion(modality) if in_place_of is ... else in_place_of
    before = previous_version(modality)
    if before is None:
        raise NothingToRollBack(
            _("There is nothing to go back to: no earlier %(modality)s model was deployed.") % {"modality": modality}
        )
    artifact_store.verify_stored(before)
    return _switch(before, by=by, note=note, kind=Deployment.Kind.ROLLBACK, in_place_of=serving)


def previous_version(modality: str) -> ModelVersion | None:
    """Return the version that a roll-back would deploy."""
    stack = _whole(modality)
    serving = current_champion(modality)
    if stack and serving and stack[-1] != serving.pk:  # a version under test has most of the traffic
        return ModelVersion.objects.get(pk=stack[-1])
    return ModelVersion.objects.get(pk=stack[-2]) if len(stack) > 1 else None


def last_sole_version(modality: str) -> ModelVersion | None:
    """Return the version that had all of the modality's traffic last."""
    stack = _whole(modality)
    return ModelVersion.objects.get(pk=stack[-1]) if stack else None


def _whole(modality: str) -> list[int]:
    """Return the versions that had all traffic, in their order, without what was rolled back."""
    stack: list[int] = []
    changes = Deployment.objects.filter(modality=modality, kind__in=WHOLE).order_by("pk")
    for version, kind in changes.values_list("version", "kind"):
        if kind == Deployment.Kind.ROLLBACK and stack:
            stack.pop()
        if not stack or stack[-1] != version:
            stack.append(version)
    return stack


def replaced_version(version: ModelVersion) -> ModelVersion | None:
    """Return the version that this one replaced when it was deployed or tested last."""
    replacing = Deployment.objects.filter(version=version, kind__in=[*WHOLE, Deployment.Kind.TEST])
    deployment = replacing.select_related("replaced").first()
    return deployment.replaced if deployment else None


def current_champion(modality: str) -> ModelVersion | None:
    """Return the version that answers most of the modality's traffic."""
    variants = live_variants(modality)
    return variants[0].version if variants else None


def live_variants(modality: str) -> list[Variant]:
    """Return the modality's live variants, the one with most traffic first."""
    variants = Variant.objects.filter(version__modality=modality, role=Variant.Role.LIVE)
    return list(variants.select_related("version").order_by("-weight", "pk"))


def version_name(pk: int) -> str:
    """Return the name of the version with this id, or the id where it is gone."""
    return str(ModelVersion.objects.filter(pk=pk).defer("metrics").first() or pk)


def find_version(name: str) -> ModelVersion:
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


def live_variants_by_modality() -> dict[str, list[Variant]]:
    """Return the live variants of each modality, the one with most traffic first."""
    return _at_work(Variant.Role.LIVE)


def shadows_by_modality() -> dict[str, list[Variant]]:
    """Return the shadows of each modality, the oldest first."""
    return _at_work(Variant.Role.SHADOW)


def _at_work(role: str) -> dict[str, list[Variant]]:
    variants: dict[str, list[Variant]] = {modality: [] for modality in Modality.values}
    rows = Variant.objects.filter(role=role).select_related("version").defer(*DEFERRED)
    for variant in rows.order_by("-weight", "pk"):
        variants[variant.version.modality].append(variant)
    return variants


def pairs_without_rule() -> list[tuple[ModelVersion, ModelVersion]]:
    """Return the deployed pairs (text, image) for which no rule was fitted: they have none, or another pair's."""
    variants = live_variants_by_modality()
    pairs = [(text.version, image.version) for text in variants["text"] for image in variants["image"]]
    return [(text, image) for text, image in pairs if not ensemble_rules.has_fitted_rule(text, image)]


def carry_over_rules(version: ModelVersion, *, in_place_of: ModelVersion) -> None:
    """Let the version answer by the rules of the one that it replaces, with each live partner it has no rule with."""
    other = Modality.IMAGE if version.modality == Modality.TEXT else Modality.TEXT
    partners = [variant.version for variant in live_variants(other)]
    ensemble_rules.copy_rules(version, in_place_of=in_place_of, partners=partners)


def choose_variant(variants: Iterable[Variant], key: uuid.UUID) -> ModelVersion:
    """Return the version that serves `key`: by weight, and always the same one for the same key and weights.

    Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights as in Schindelhauer and Schomaker 2005): each
    variant draws an exponential number from the key and its own checksum, and the least wins. A change of weights
    moves only keys that a variant gains or loses, and tests of different modalities fall independently.

    Raises NothingDeployed when there is none.
    """
    chosen = min(variants, key=lambda variant: -math.log(_draw(key, variant.version)) / variant.weight, default=None)
    if chosen is None:
        raise NothingDeployed("No model version is deployed; run `manage.py prepare`.")
    return chosen.version


def _draw(key: uuid.UUID, version: ModelVersion) -> float:
    """Return a number between 0 and 1, neither of them, that is always the same for the key and the version."""
    digest = hashlib.blake2b(key.bytes + version.checksum.encode(), digest_size=6).digest()
    return (int.from_bytes(digest) + 0.5) / 2**48


def lock_versions() -> None:
    """Make changes of what serves come one after the other; needs a transaction.

    Of both modalities: whoever changes one carries over rules with what serves the other.
    """
    list(ModelVersion.objects.select_for_update().order_by("pk").values_list("pk"))


@transaction.atomic
def _switch(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None",
    note: str,
    kind: str,
    in_place_of: ModelVersion | EllipsisType | None,
    ends_test: bool = True,
    accepts_loss: bool = True,
) -> Variant:
    lock_versions()
    if not accepts_loss:  # another version may have been deployed since the caller looked
        refuse_category_loss(version)
    serving = live_variants(version.modality)
    if [variant.version_id for variant in serving] == [version.pk]:
        return serving[0]
    if len(serving) > 1 and not ends_test:
        raise NotDeployable(
            _("A test is running: %(names)s. Test this version too, or deploy it, from its page or with `models`.")
            % {"names": ", ".join(str(variant) for variant in serving)}
        )
    expected = in_place_of.pk if isinstance(in_place_of, ModelVersion) else None
    if in_place_of is not ... and expected != (serving[0].version_id if serving else None):
        raise NotDeployable(
            _("Another version was deployed meanwhile: %(version)s. Look again.")
            % {"version": serving[0].version if serving else _("none")}
        )
    others = [variant for variant in serving if variant.version_id != version.pk]
    if others:
        carry_over_rules(version, in_place_of=others[0].version)
    Variant.objects.filter(pk__in=[variant.pk for variant in others]).delete()
    Variant.objects.filter(version=version).delete()
    variant = Variant.objects.create(version=version, weight=100)
    record_deployment(version, kind=kind, by=by, note=note, replaced=others[0].version if others else None)
    return variant


def record_deployment(
    version: ModelVersion,
    *,
    kind: str,
    by: "AbstractBaseUser | None",
    note: str,
    replaced: ModelVersion | None = None,
) -> None:
    """Write down a change that was just made, with the shares that it led to."""
    Deployment.objects.create(
        modality=version.modality,
        version=version,
        replaced=replaced,
        kind=kind,
        shares={variant.version.name: variant.weight for variant in live_variants(version.modality)},
        deployed_by_id=by.pk if by else None,
        note=note[:200],
    )
