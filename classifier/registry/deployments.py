"""Deploy a model version, roll back, and refuse versions that must not serve."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils.translation import gettext as _

from classifier.evaluation.category_coverage import coverage_of, name_list
from classifier.models import Deployment, ModelVersion, Variant
from classifier.registry import artifact_store, ensemble_rules, traffic, versions

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

# The changes that give one version all traffic: those that a roll-back takes back.
FULL_DEPLOYMENTS = (Deployment.Kind.DEPLOYMENT, Deployment.Kind.PROMOTION, Deployment.Kind.ROLLBACK)


class NotDeployable(Exception):
    """A version that must not serve; the message says why."""


class CategoryLoss(NotDeployable):
    """A version that can't suggest active categories which a live version suggests."""


class NothingToRollBack(Exception):
    """No earlier deployment is known."""


@dataclass(frozen=True)
class ExpectedChampion:
    """The champion that the caller decided upon; None where nothing was live. Another one by now voids the decision."""

    version: ModelVersion | None


def deploy_version(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    expected_champion: ExpectedChampion | None = None,
    ends_experiment: bool = True,
    accepts_loss: bool = False,
) -> Variant:
    """Give all traffic of the version's modality to it, after hashing its stored files again; an experiment ends.

    Deploying the only live version changes nothing. Raises NotDeployable for a rejected version, when another than the
    expected champion is live by now, and while an experiment runs unless `ends_experiment`; CategoryLoss for one that
    can't suggest what a live version suggests, unless `accepts_loss`; ArtifactError for one whose stored artifact is
    corrupt or incomplete, and StorageDown. The live versions stay as they are then.
    """
    refuse_rejected(version)
    if not accepts_loss:
        refuse_category_loss(version)
    artifact_store.verify_stored(version)
    return _give_all_traffic(
        version,
        by=by,
        note=note,
        kind=Deployment.Kind.DEPLOYMENT,
        expected_champion=expected_champion,
        ends_experiment=ends_experiment,
        accepts_loss=accepts_loss,
    )


def roll_back(
    modality: str,
    *,
    by: "AbstractBaseUser | None" = None,
    note: str = "",
    expected_champion: ExpectedChampion | None = None,
) -> Variant:
    """Deploy the version that had all traffic before the champion; doing it again goes one further back.

    An experiment ends. Categories that only the champion knows don't prevent a roll-back: it is the way out of an
    emergency. Raises NothingToRollBack when there is no earlier version, and what `deploy_version` raises.
    """
    if expected_champion is None:
        expected_champion = ExpectedChampion(traffic.current_champion(modality))
    before = previous_version(modality)
    if before is None:
        raise NothingToRollBack(
            _("There is nothing to roll back to: no earlier %(modality)s model was deployed.") % {"modality": modality}
        )
    # Before the transaction: hashing files in object storage takes seconds, and the lock must be short.
    artifact_store.verify_stored(before)
    return _give_all_traffic(
        before, by=by, note=note, kind=Deployment.Kind.ROLLBACK, expected_champion=expected_champion
    )


def refuse_rejected(version: ModelVersion) -> None:
    """Raise NotDeployable for a version that the gate rejected."""
    if version.state == ModelVersion.State.REJECTED:
        raise NotDeployable(
            _("%(version)s was rejected and can't be deployed. %(reason)s")
            % {"version": version, "reason": version.reason}
        )


def refuse_category_loss(version: ModelVersion) -> None:
    """Raise CategoryLoss for a version that can't suggest active categories which live versions suggest."""
    served = traffic.served_labels(version.modality, excluding=version)
    lost = coverage_of(versions.read_labels(version), before=served).lost
    if lost:
        raise CategoryLoss(
            _("%(version)s can't suggest %(count)d categories that the live model suggests: %(names)s.")
            % {"version": version, "count": len(lost), "names": name_list(lost.values())}
        )


def previous_version(modality: str) -> ModelVersion | None:
    """Return the version that a roll-back would deploy."""
    history = _full_deployment_history(modality)
    champion = traffic.current_champion(modality)
    if history and champion and history[-1] != champion.pk:  # a version under test has most of the traffic
        return ModelVersion.objects.get(pk=history[-1])
    return ModelVersion.objects.get(pk=history[-2]) if len(history) > 1 else None


def last_sole_version(modality: str) -> ModelVersion | None:
    """Return the version that had all of the modality's traffic last."""
    history = _full_deployment_history(modality)
    return ModelVersion.objects.get(pk=history[-1]) if history else None


def _full_deployment_history(modality: str) -> list[int]:
    """Return the ids of the versions that had all traffic, in their order, without what was rolled back."""
    history: list[int] = []
    changes = Deployment.objects.filter(modality=modality, kind__in=FULL_DEPLOYMENTS).order_by("pk")
    for version, kind in changes.values_list("version", "kind"):
        # A roll-back removes the version that it replaced, so that the next one goes further back.
        if kind == Deployment.Kind.ROLLBACK and history:
            history.pop()
        if not history or history[-1] != version:
            history.append(version)
    return history


def replaced_version(version: ModelVersion) -> ModelVersion | None:
    """Return the version that this one replaced when it was deployed or tested last."""
    replacing = Deployment.objects.filter(version=version, kind__in=[*FULL_DEPLOYMENTS, Deployment.Kind.TEST])
    deployment = replacing.select_related("replaced").first()
    return deployment.replaced if deployment else None


def lock_versions() -> None:
    """Let one transaction at a time change which versions are live; needs a transaction."""
    # Rows of both modalities: a change of one also copies ensemble rules, which pair it with the other's live versions.
    list(ModelVersion.objects.select_for_update().order_by("pk").values_list("pk"))


def record_deployment(
    version: ModelVersion,
    *,
    kind: str,
    by: "AbstractBaseUser | None",
    note: str,
    replaced: ModelVersion | None = None,
) -> None:
    """Record a change that was just made, with the shares of traffic that it led to."""
    Deployment.objects.create(
        modality=version.modality,
        version=version,
        replaced=replaced,
        kind=kind,
        shares={variant.version.name: variant.weight for variant in traffic.live_variants(version.modality)},
        deployed_by_id=by.pk if by else None,
        note=note[:200],
    )


@transaction.atomic
def _give_all_traffic(
    version: ModelVersion,
    *,
    by: "AbstractBaseUser | None",
    note: str,
    kind: str,
    expected_champion: ExpectedChampion | None,
    ends_experiment: bool = True,
    accepts_loss: bool = True,
) -> Variant:
    lock_versions()
    if not accepts_loss:
        # Checked again under the lock: another version may have been deployed since the caller's check.
        refuse_category_loss(version)
    live = traffic.live_variants(version.modality)
    if [variant.version_id for variant in live] == [version.pk]:
        return live[0]
    if len(live) > 1 and not ends_experiment:
        raise NotDeployable(
            _("An experiment is running: %(names)s. Add this version to it or deploy it by hand.")
            % {"names": ", ".join(str(variant) for variant in live)}
        )
    champion = live[0].version if live else None
    if expected_champion and expected_champion.version != champion:
        raise NotDeployable(
            _("Another version has been deployed: %(version)s. Look again.") % {"version": champion or _("none")}
        )
    others = [variant for variant in live if variant.version_id != version.pk]
    replaced = others[0].version if others else None
    if replaced:
        ensemble_rules.carry_over_rules(version, replaced=replaced)
    Variant.objects.filter(pk__in=[variant.pk for variant in others]).delete()
    # The version itself may be a shadow or under test.
    Variant.objects.filter(version=version).delete()
    variant = Variant.objects.create(version=version, weight=100)
    record_deployment(version, kind=kind, by=by, note=note, replaced=replaced)
    return variant
