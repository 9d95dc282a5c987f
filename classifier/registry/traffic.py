"""Tests and shadows: which versions share a modality's traffic, and which only look on.

Each change is one transaction that leaves a Deployment row. The people's right to make it is the pages' business
(`classifier.deploy_modelversion`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Deployment, ModelVersion, Variant
from classifier.registry import artifact_store, deployments
from classifier.registry.deployments import NotDeployable

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

WHOLE = 100


def start_test(
    version: ModelVersion,
    *,
    weight: int,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    seen: str | None = None,
    accepts_loss: bool = False,
) -> Variant:
    """Give the version `weight` per cent of its modality's traffic; the others keep the rest in proportion.

    A shadow may be tested: it stops being one. Raises NotDeployable for a rejected version, one that is live already,
    a weight that leaves nothing for the others, or when nothing serves; LosesCategories as `registry.deploy` does;
    ArtifactError and StorageDown for stored files that are damaged or can't be read.
    """
    deployments.refuse_rejected(version)
    if not accepts_loss:
        deployments.refuse_category_loss(version)
    artifact_store.verify_stored(version)
    with transaction.atomic():
        serving = _locked(version.modality, seen)
        if not serving:
            raise NotDeployable(_("Nothing serves that %(version)s could be tested beside.") % {"version": version})
        if version in [variant.version for variant in serving]:
            raise NotDeployable(_("%(version)s is live already.") % {"version": version})
        if not 1 <= weight <= WHOLE - len(serving):
            raise NotDeployable(
                _("A share must be from 1 to %(most)d %%, not %(weight)d %%.")
                % {"most": WHOLE - len(serving), "weight": weight}
            )
        deployments.carry_over_rules(version, in_place_of=serving[0].version)
        _give({each.version: each.weight for each in serving}, WHOLE - weight)
        variant, _is_new = Variant.objects.update_or_create(
            version=version,
            defaults={"role": Variant.Role.LIVE, "weight": weight, "deployed_at": timezone.now()},
        )
        deployments.record_deployment(version, kind=Deployment.Kind.TEST, by=by, note=note, replaced=serving[0].version)
    return variant


def set_weights(
    weights: Mapping[ModelVersion, int], *, by: "AbstractBaseUser | None" = None, note: str = ""
) -> list[Variant]:
    """Share a modality's traffic anew among its live versions; all of them must be named. Return its variants.

    Raises NotDeployable when the weights don't sum to 100 or name other versions than those that are live.
    """
    modalities = {version.modality for version in weights}
    if len(modalities) != 1:
        raise NotDeployable(_("Name the live versions of one modality."))
    (modality,) = modalities
    with transaction.atomic():
        serving = _locked(modality, None)
        if {variant.version for variant in serving} != set(weights):
            raise NotDeployable(
                _("Name each live version once: %(names)s.") % {"names": ", ".join(str(v.version) for v in serving)}
            )
        if sum(weights.values()) != WHOLE or min(weights.values()) < 1:
            raise NotDeployable(_("The shares must be from 1 on and sum to 100 %."))
        for version, weight in weights.items():
            Variant.objects.filter(version=version).update(weight=weight)
        champion = deployments.live_variants(modality)[0].version
        deployments.record_deployment(champion, kind=Deployment.Kind.WEIGHTS, by=by, note=note)
    return deployments.live_variants(modality)


def start_shadow(
    version: ModelVersion, *, by: "AbstractBaseUser | None" = None, note: str = "", seen: str | None = None
) -> Variant:
    """Let the version answer every question of its modality too, for staff only; a rejected one may.

    Raises NotDeployable for one that is at work already, ArtifactError and StorageDown as `start_test` does.
    """
    artifact_store.verify_stored(version)
    with transaction.atomic():
        _locked(version.modality, seen)
        if Variant.objects.filter(version=version).exists():
            raise NotDeployable(_("%(version)s is at work already.") % {"version": version})
        variant = Variant.objects.create(version=version, role=Variant.Role.SHADOW, weight=0)
        deployments.record_deployment(version, kind=Deployment.Kind.SHADOW, by=by, note=note)
    return variant


@transaction.atomic
def stop_variant(
    version: ModelVersion, *, by: "AbstractBaseUser | None" = None, note: str = "", seen: str | None = None
) -> None:
    """End a test or a shadow; the other live versions get its share in proportion to theirs.

    Raises NotDeployable for a version that isn't at work, or that alone serves its modality.
    """
    serving = _locked(version.modality, seen)
    variant = Variant.objects.filter(version=version).first()
    if variant is None:
        raise NotDeployable(_("%(version)s is not at work.") % {"version": version})
    rest = {each.version: each.weight for each in serving if each.version_id != version.pk}
    if variant.is_live and not rest:
        raise NotDeployable(_("%(version)s serves alone: deploy another version, or roll back.") % {"version": version})
    variant.delete()
    if variant.is_live:
        _give(rest, WHOLE)
    deployments.record_deployment(version, kind=Deployment.Kind.STOP, by=by, note=note)
    if len(rest) == 1 and variant.is_live:
        (winner,) = rest
        if winner != deployments.last_sole_version(version.modality):
            deployments.record_deployment(winner, kind=Deployment.Kind.PROMOTION, by=by, note=note, replaced=version)


def promote_variant(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    seen: str | None = None,
    accepts_loss: bool = False,
) -> Variant:
    """Give all traffic to a version under test; the others of its modality stop, shadows stay.

    Raises NotDeployable for one that isn't live or serves alone already, LosesCategories, ArtifactError and StorageDown
    as `start_test` does.
    """
    artifact_store.verify_stored(version)
    with transaction.atomic():
        serving = _locked(version.modality, seen)
        if not accepts_loss:
            deployments.refuse_category_loss(version)
        if version not in [variant.version for variant in serving]:
            raise NotDeployable(_("%(version)s is not under test.") % {"version": version})
        others = [variant for variant in serving if variant.version_id != version.pk]
        if not others:
            raise NotDeployable(_("%(version)s serves alone already.") % {"version": version})
        Variant.objects.filter(pk__in=[variant.pk for variant in others]).delete()
        Variant.objects.filter(version=version).update(weight=WHOLE)
        deployments.record_deployment(
            version, kind=Deployment.Kind.PROMOTION, by=by, note=note, replaced=others[0].version
        )
    return Variant.objects.get(version=version)


def traffic_state(modality: str) -> str:
    """Return what serves and looks on as a word, for `seen`: a page's question is void when it has changed since."""
    rows = Variant.objects.filter(version__modality=modality).order_by("version")
    return " ".join(f"{version}:{weight}" for version, weight in rows.values_list("version", "weight"))


def _locked(modality: str, seen: str | None) -> list[Variant]:
    """Return the live variants, which nobody else changes before the transaction ends.

    Raises NotDeployable when what is at work isn't what the caller saw.
    """
    deployments.lock_versions()
    if seen is not None and seen != traffic_state(modality):
        raise NotDeployable(_("What serves was changed meanwhile. Look again."))
    return deployments.live_variants(modality)


def _give(weights: Mapping[ModelVersion, int], total: int) -> None:
    """Share `total` per cent among the versions in proportion to their weights, each at least 1."""
    for version, weight in split_shares(weights, total).items():
        Variant.objects.filter(version=version).update(weight=weight)


def split_shares(weights: Mapping[ModelVersion, int], total: int) -> dict[ModelVersion, int]:
    """Return whole shares of `total` in proportion to the weights, by the largest remainders, each at least 1."""
    exact = {version: total * weight / sum(weights.values()) for version, weight in weights.items()}
    shares = {version: max(1, int(share)) for version, share in exact.items()}
    for version in sorted(exact, key=lambda each: exact[each] % 1, reverse=True)[
        : max(0, total - sum(shares.values()))
    ]:
        shares[version] += 1
    largest = max(shares, key=lambda each: shares[each])
    shares[largest] -= sum(shares.values()) - total
    return shares
