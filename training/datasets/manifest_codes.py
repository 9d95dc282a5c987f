"""Define the codes that manifests hold: why products are left out of a dataset, and warnings about what is in it.

A manifest is immutable, so it holds codes; `manifest_labels` has the words for them. Manifests of older versions hold
English words instead, which are read as the codes of today.
"""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class ExclusionReason(StrEnum):
    """Why a product is not in a dataset."""

    SIMILAR_TO_TWO_SPLITS = "similar_to_two_splits"
    INACTIVE_CATEGORY = "inactive_category"
    DUPLICATE = "duplicate"
    NO_TRAINING_ROW = "no_training_row"
    PHOTO_UNREADABLE = "photo_unreadable"
    FEEDBACK_NOT_REVIEWED = "feedback_not_reviewed"
    FEEDBACK_REJECTED = "feedback_rejected"
    FEEDBACK_NO_CATEGORY = "feedback_no_category"
    FEEDBACK_SET_ASIDE = "feedback_set_aside"
    FEEDBACK_FRAUD_CASE = "feedback_fraud_case"
    FEEDBACK_PHOTO_GONE = "feedback_photo_gone"
    ERASED = "erased"


class DatasetWarning(StrEnum):
    """What may be wrong with a category of a dataset."""

    ONE_TRAINING_ROW = "one_training_row"


# The words in manifests of older versions.
OLD_EXCLUSIONS = {
    "alike to products of two parts": ExclusionReason.SIMILAR_TO_TWO_SPLITS,
    "category switched off": ExclusionReason.INACTIVE_CATEGORY,
    "the same as another example": ExclusionReason.DUPLICATE,
    "no training row in its category": ExclusionReason.NO_TRAINING_ROW,
    "photo is missing or damaged": ExclusionReason.PHOTO_UNREADABLE,
    "feedback: not reviewed": ExclusionReason.FEEDBACK_NOT_REVIEWED,
    "feedback: rejected": ExclusionReason.FEEDBACK_REJECTED,
    "feedback: fits no category": ExclusionReason.FEEDBACK_NO_CATEGORY,
    "feedback: set aside as suspicious": ExclusionReason.FEEDBACK_SET_ASIDE,
    "feedback: its seller has a fraud case": ExclusionReason.FEEDBACK_FRAUD_CASE,
    "feedback: photo is gone": ExclusionReason.FEEDBACK_PHOTO_GONE,
    "erased on request": ExclusionReason.ERASED,
}


def read_exclusions(manifest: Mapping[str, Any]) -> Counter[str]:
    """Return how many products were left out of a dataset for each reason: codes, also of an older manifest."""
    counts: Counter[str] = Counter()
    for reason, count in manifest["exclusions"].items():
        counts[OLD_EXCLUSIONS.get(reason, reason)] += count
    return counts


def find_warnings(classes: Mapping[str, Mapping[str, int]]) -> list[dict[str, str]]:
    """Return the warnings about a dataset's categories, given each one's rows by split."""
    warnings = []
    for slug, counts in sorted(classes.items()):
        if counts["train"] < 2:
            warnings.append({"code": DatasetWarning.ONE_TRAINING_ROW.value, "category": slug})
    return warnings
