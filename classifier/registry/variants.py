"""Start, change and end experiments and shadows.

Each change is one transaction that leaves a Deployment row. Views check the user's permission to make it
(`classifier.deploy_modelversion`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Deployment, ModelVersion, Variant
from classifier.registry import artifact_store, deployments, ensemble_rules, traffic
from classifier.registry.deployments import NotDeployable

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

ALL_TRAFFIC = 100


def start_test(
    version: ModelVersion,
    *,
    weight: int,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    expected_traffic: str | None = None,
    accepts_loss: bool = False,
) -> Variant:
    """Give the version `weight` per cent of its modality's traffic; the others keep the rest in proportion.

    A shadow may be tested: it stops being one. Raises NotDeployable for a rejected version, one that is live already,
    a weight that leaves nothing for the others, or when nothing is live; CategoryLoss as `deploy_version` does;
    ArtifactError and StorageDown for stored files that are damaged or can't be read.
    """
    deployments.refuse_rejected(version)
    if not accepts_loss:
        deployments.refuse_category_loss(version)
    # Before the transaction, as hashing files in object storage takes seconds.
    artifact_store.verify_stored(version)
    with transaction.atomic():
        live = _lock_live_variants(version.modality, expected_traffic)
        if not live:
            raise NotDeployable(
                _("No version is live that %(version)s could be tested against.") % {"version": version}
            )
        if version in [variant.version for variant in live]:
            raise NotDeployable(_("%(version)s is live already.") % {"version": version})
        most = ALL_TRAFFIC - len(live)
        if not 1 <= weight <= most:
            raise NotDeployable(
                _("A share must be from 1 to %(most)d %%, not %(weight)d %%.") % {"most": most, "weight": weight}
            )
        champion = live[0].version
        ensemble_rules.carry_over_rules(version, replaced=champion)
        _set_shares({variant.version: variant.weight for variant in live}, ALL_TRAFFIC - weight)
        variant, _is_new = Variant.objects.update_or_create(
            version=version,
            defaults={"role": Variant.Role.LIVE, "weight": weight, "deployed_at": timezone.now()},
        )
        deployments.record_deployment(version, kind=Deployment.Kind.TEST, by=by, note=note, replaced=champion)
    return variant


def set_weights(
    weights: Mapping[ModelVersion, int], *, by: "AbstractBaseUser | None" = None, note: str = ""
) -> list[Variant]:
    """Set the shares of traffic of all live versions of a modality; return its variants.

    Raises NotDeployable when the weights don't sum to 100 or name other versions than those that are live.
    """
    modalities = {version.modality for version in weights}
    if len(modalities) != 1:
        raise NotDeployable(_("Name the live versions of one modality."))
    (modality,) = modalities
    with transaction.atomic():
        live = _lock_live_variants(modality, None)
        if {variant.version for variant in live} != set(weights):
            names = ", ".join(str(variant.version) for variant in live)
            raise NotDeployable(_("Name each live version once: %(names)s.") % {"names": names})
        if sum(weights.values()) != ALL_TRAFFIC or min(weights.values()) < 1:
            raise NotDeployable(_("Each share must be at least 1 %, and all must add up to 100 %."))
        for version, weight in weights.items():
            Variant.objects.filter(version=version).update(weight=weight)
        champion = traffic.live_variants(modality)[0].version
        deployments.record_deployment(champion, kind=Deployment.Kind.WEIGHTS, by=by, note=note)
    return traffic.live_variants(modality)


def start_shadow(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    expected_traffic: str | None = None,
) -> Variant:
    """Let the version answer every product of its modality too, for staff only; a rejected version may.

    Raises NotDeployable for one that is in use already, ArtifactError and StorageDown as `start_test` does.
    """
    artifact_store.verify_stored(version)
    with transaction.atomic():
        _lock_live_variants(version.modality, expected_traffic)
        if Variant.objects.filter(version=version).exists():
            raise NotDeployable(_("%(version)s is in use already.") % {"version": version})
        variant = Variant.objects.create(version=version, role=Variant.Role.SHADOW, weight=0)
        deployments.record_deployment(version, kind=Deployment.Kind.SHADOW, by=by, note=note)
    return variant


@transaction.atomic
def stop_variant(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    expected_traffic: str | None = None,
) -> None:
    """End the use of a live version or a shadow; the other live versions get its share in proportion to theirs.

    Raises NotDeployable for a version that isn't in use, or that is the only live one of its modality.
    """
    live = _lock_live_variants(version.modality, expected_traffic)
    variant = Variant.objects.filter(version=version).first()
    if variant is None:
        raise NotDeployable(_("%(version)s is not in use.") % {"version": version})
    rest = {each.version: each.weight for each in live if each.version_id != version.pk}
    if variant.is_live and not rest:
        raise NotDeployable(
            _("%(version)s is the only live version: deploy another one, or roll back.") % {"version": version}
        )
    variant.delete()
    if variant.is_live:
        _set_shares(rest, ALL_TRAFFIC)
    deployments.record_deployment(version, kind=Deployment.Kind.STOP, by=by, note=note)
    if len(rest) == 1 and variant.is_live:
        (winner,) = rest
        # Without this record a roll-back would not know that the winner has all traffic now.
        if winner != deployments.last_sole_version(version.modality):
            deployments.record_deployment(winner, kind=Deployment.Kind.PROMOTION, by=by, note=note, replaced=version)


def promote_variant(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    expected_traffic: str | None = None,
    accepts_loss: bool = False,
) -> Variant:
    """Give all traffic to a version under test; the others of its modality stop, shadows stay.

    Raises NotDeployable for one that isn't live or is the only live one, CategoryLoss, ArtifactError and StorageDown
    as `start_test` does.
    """
    artifact_store.verify_stored(version)
    with transaction.atomic():
        live = _lock_live_variants(version.modality, expected_traffic)
        if not accepts_loss:
            deployments.refuse_category_loss(version)
        if version not in [variant.version for variant in live]:
            raise NotDeployable(_("%(version)s is not under test.") % {"version": version})
        others = [variant for variant in live if variant.version_id != version.pk]
        if not others:
            raise NotDeployable(_("%(version)s has all traffic already.") % {"version": version})
        Variant.objects.filter(pk__in=[variant.pk for variant in others]).delete()
        Variant.objects.filter(version=version).update(weight=ALL_TRAFFIC)
        deployments.record_deployment(
            version, kind=Deployment.Kind.PROMOTION, by=by, note=note, replaced=others[0].version
        )
    return Variant.objects.get(version=version)


def split_shares(weights: Mapping[ModelVersion, int], total: int) -> dict[ModelVersion, int]:
    """Return whole shares of `total` in proportion to the weights, by the largest remainders, each at least 1."""
    exact = {version: total * weight / sum(weights.values()) for version, weight in weights.items()}
    shares = {version: max(1, int(share)) for version, share in exact.items()}
    missing = max(0, total - sum(shares.values()))
    by_remainder = sorted(exact, key=lambda version: exact[version] % 1, reverse=True)
    for version in by_remainder[:missing]:
        shares[version] += 1
    # Raising small shares to 1 may have given out too much.
    largest = max(shares, key=lambda version: shares[version])
    shares[largest] -= sum(shares.values()) - total
    return shares


def _lock_live_variants(modality: str, expected_traffic: str | None) -> list[Variant]:
    """Return the live variants, locked against other changes until the transaction ends.

    Raises NotDeployable when the variants in use aren't those that the caller saw.
    """
    deployments.lock_versions()
    if expected_traffic is not None and expected_traffic != traffic.traffic_state(modality):
        raise NotDeployable(_("The live versions have changed. Look again."))
    return traffic.live_variants(modality)


def _set_shares(weights: Mapping[ModelVersion, int], total: int) -> None:
    for version, weight in split_shares(weights, total).items():
        Variant.objects.filter(version=version).update(weight=weight)
