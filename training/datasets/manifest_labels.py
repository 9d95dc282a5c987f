"""Give the codes in manifests their words, for pages and commands."""

from collections.abc import Mapping

from django.utils.translation import gettext_lazy as _

from training.datasets.manifest_codes import DatasetWarning, ExclusionReason

EXCLUSION_LABELS = {
    ExclusionReason.SIMILAR_TO_TWO_SPLITS: _("Similar to products of two splits"),
    ExclusionReason.INACTIVE_CATEGORY: _("Category switched off"),
    ExclusionReason.DUPLICATE: _("The same as another example"),
    ExclusionReason.NO_TRAINING_ROW: _("No training row in its category"),
    ExclusionReason.PHOTO_UNREADABLE: _("Photo is missing or damaged"),
    ExclusionReason.FEEDBACK_NOT_REVIEWED: _("Answer: not reviewed"),
    ExclusionReason.FEEDBACK_REJECTED: _("Answer: rejected"),
    ExclusionReason.FEEDBACK_NO_CATEGORY: _("Answer: fits no category"),
    ExclusionReason.FEEDBACK_SET_ASIDE: _("Answer: set aside as suspicious"),
    ExclusionReason.FEEDBACK_FRAUD_CASE: _("Answer: its seller has a fraud case"),
    ExclusionReason.FEEDBACK_PHOTO_GONE: _("Answer: photo is gone"),
    ExclusionReason.ERASED: _("Erased on request"),
}

WARNING_LABELS = {
    DatasetWarning.ONE_TRAINING_ROW: _("%(category)s has one training row: models can hardly learn it."),
}


def exclusion_label(reason: str) -> str:
    """Return the words for a reason; an unknown one is shown as it is."""
    if reason in EXCLUSION_LABELS:
        return str(EXCLUSION_LABELS[ExclusionReason(reason)])
    return reason


def warning_text(warning: str | Mapping[str, str]) -> str:
    """Return a manifest's warning in words. Older manifests hold sentences."""
    if isinstance(warning, str):
        return warning
    if warning["code"] in WARNING_LABELS:
        return str(WARNING_LABELS[DatasetWarning(warning["code"])]) % {"category": warning["category"]}
    return warning["code"]
