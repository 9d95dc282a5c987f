"""Look up the ensemble rules of pairs of a text and an image version, and carry them over to new pairs."""

import logging
from collections.abc import Iterable

from classifier.ml import ensemble
from classifier.models import EnsembleRule, Modality, ModelVersion
from classifier.registry import traffic

log = logging.getLogger(__name__)


def usable_rules(versions: Iterable[ModelVersion]) -> dict[tuple[int, int], ensemble.Rule]:
    """Return the rule of each (text version, image version) pair among the versions that has a usable one."""
    ids = {version.pk for version in versions}
    pairs = EnsembleRule.objects.filter(text_version__in=ids, image_version__in=ids)
    unused = [f"{side}__{name}" for side in ("text_version", "image_version") for name in ModelVersion.REPORT_COLUMNS]
    found = {}
    for row in pairs.select_related("text_version", "image_version").defer("metrics", *unused):
        try:
            found[row.text_version_id, row.image_version_id] = row.rule()
        # An unusable rule counts as none: the pair then uses the uncalibrated mean instead of failing.
        except ValueError as error:
            log.error("The rule of %s is unusable: %s", row, error)
    return found


def has_fitted_rule(text: ModelVersion, image: ModelVersion) -> bool:
    """Return whether a rule was fitted for the pair, not carried over from another one."""
    return EnsembleRule.objects.filter(text_version=text, image_version=image, carried_over_from="").exists()


def pairs_without_rule() -> list[tuple[ModelVersion, ModelVersion]]:
    """Return the live pairs (text, image) for which no rule was fitted: they have none, or another pair's."""
    live = traffic.live_variants_by_modality()
    pairs = [(text.version, image.version) for text in live["text"] for image in live["image"]]
    return [(text, image) for text, image in pairs if not has_fitted_rule(text, image)]


def carry_over_rules(version: ModelVersion, *, replaced: ModelVersion) -> None:
    """Copy the rules of the replaced version for each live version that `version` has no rule with.

    Sellers keep their percentages when no rule could be fitted beforehand. `training.acceptance.ensemble_fitting` fits
    one as soon as there are enough products with text and photo.
    """
    other = Modality.IMAGE if version.modality == Modality.TEXT else Modality.TEXT
    own_side, other_side = f"{version.modality}_version", f"{other}_version"
    for variant in traffic.live_variants(other):
        pair = {own_side: version, other_side: variant.version}
        if EnsembleRule.objects.filter(**pair).exists():
            continue
        rule = EnsembleRule.objects.filter(**{own_side: replaced, other_side: variant.version}).first()
        if rule:
            EnsembleRule.objects.create(
                **pair,
                kind=rule.kind,
                parameters=rule.parameters,
                carried_over_from=rule.carried_over_from or str(rule),
            )
