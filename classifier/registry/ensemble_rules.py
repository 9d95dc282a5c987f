"""The ensemble rules of pairs of a text and an image version: those that serve, and what a new pair begins with."""

import logging
from collections.abc import Iterable

from classifier.ml import ensemble
from classifier.models import EnsembleRule, Modality, ModelVersion

log = logging.getLogger(__name__)

# What combining answers doesn't need of a version.
HEAVY = ("metrics", "labels", "gate", "lineage")


def usable_rules(versions: Iterable[ModelVersion]) -> dict[tuple[int, int], ensemble.Rule]:
    """Return the rule of each (text version, image version) pair among the versions that has a usable one."""
    among = {version.pk for version in versions}
    pairs = EnsembleRule.objects.filter(text_version__in=among, image_version__in=among)
    found = {}
    unneeded = [f"{side}__{name}" for side in ("text_version", "image_version") for name in HEAVY]
    for row in pairs.select_related("text_version", "image_version").defer("metrics", *unneeded):
        try:
            found[row.text_version_id, row.image_version_id] = row.rule()
        except ValueError as error:
            log.error("The rule of %s is unusable: %s", row, error)
    return found


def has_fitted_rule(text: ModelVersion, image: ModelVersion) -> bool:
    """Return whether a rule was fitted for the pair, not carried over from another one."""
    return EnsembleRule.objects.filter(text_version=text, image_version=image, carried_over_from="").exists()


def copy_rules(version: ModelVersion, *, in_place_of: ModelVersion, partners: Iterable[ModelVersion]) -> None:
    """Copy the rules of the version that is replaced for each partner that `version` has no rule with.

    So sellers keep their percentages when no rule could be fitted beforehand. `training.acceptance.ensemble_fitting`
    fits one as soon as there are enough products with text and photo.
    """
    other = Modality.IMAGE if version.modality == Modality.TEXT else Modality.TEXT
    mine, theirs = f"{version.modality}_version", f"{other}_version"
    for partner in partners:
        if EnsembleRule.objects.filter(**{mine: version, theirs: partner}).exists():
            continue
        rule = EnsembleRule.objects.filter(**{mine: in_place_of, theirs: partner}).first()
        if rule:
            EnsembleRule.objects.create(
                **{mine: version, theirs: partner},
                kind=rule.kind,
                parameters=rule.parameters,
                carried_over_from=rule.carried_over_from or str(rule),
            )
