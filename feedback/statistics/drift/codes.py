"""Name the columns, states and measures of drift by codes, as JSON columns store them.

Labels for people are in `feedback.monitoring.drift_labels`. Rows of older versions hold English words instead of codes:
read them through `current_code`.
"""

from collections.abc import Mapping
from enum import StrEnum


class DriftColumn(StrEnum):
    """A feature of predictions whose distribution is compared with the baseline."""

    INPUTS = "inputs"
    LANGUAGE = "language"
    PREDICTION = "prediction"
    LABEL = "label"
    TEXT_LENGTH = "text_length"
    PHOTO_SIZE = "photo_size"
    PHOTO_BRIGHTNESS = "photo_brightness"
    PHOTO_SHARPNESS = "photo_sharpness"
    CONFIDENCE = "confidence"
    TEXT_EMBEDDING = "text_embedding"
    IMAGE_EMBEDDING = "image_embedding"


class InputKind(StrEnum):
    """What a product gives the models to read: the values of the column `inputs`."""

    TEXT_AND_PHOTO = "text_and_photo"
    TEXT = "text"
    PHOTO = "photo"
    NOTHING = "nothing"


class ColumnState(StrEnum):
    """What a comparison found about one column."""

    STABLE = "stable"
    DRIFTED = "drifted"
    NOT_ENOUGH_DATA = "not_enough_data"


class Measure(StrEnum):
    """A statistic that measures how far a window is from its baseline."""

    KOLMOGOROV_SMIRNOV = "kolmogorov_smirnov"
    WASSERSTEIN = "wasserstein"
    CHI_SQUARE = "chi_square"
    JENSEN_SHANNON = "jensen_shannon"
    L_INFINITY = "l_infinity"
    STABILITY_INDEX = "stability_index"
    DOMAIN_CLASSIFIER = "domain_classifier"


# What rows written before there were codes hold instead of them. They stay in the database for years: baselines are
# never rewritten, and reports are kept.
OLDER_NAMES: Mapping[str, str] = {
    "text length": DriftColumn.TEXT_LENGTH,
    "photo size": DriftColumn.PHOTO_SIZE,
    "photo brightness": DriftColumn.PHOTO_BRIGHTNESS,
    "photo sharpness": DriftColumn.PHOTO_SHARPNESS,
    "text embedding": DriftColumn.TEXT_EMBEDDING,
    "image embedding": DriftColumn.IMAGE_EMBEDDING,
    "text and photo": InputKind.TEXT_AND_PHOTO,
    "not enough data": ColumnState.NOT_ENOUGH_DATA,
    "Kolmogorov-Smirnov": Measure.KOLMOGOROV_SMIRNOV,
    "Wasserstein": Measure.WASSERSTEIN,
    "chi-square": Measure.CHI_SQUARE,
    "Jensen-Shannon": Measure.JENSEN_SHANNON,
    "L-infinity": Measure.L_INFINITY,
    "stability index": Measure.STABILITY_INDEX,
    "domain classifier": Measure.DOMAIN_CLASSIFIER,
}


def current_code(stored: str) -> str:
    """Return the code for a stored name: itself, or what replaced the words of an older version."""
    return str(OLDER_NAMES.get(stored, stored))


def embedding_column(modality: str) -> str:
    """Return the column of a modality's embeddings."""
    return f"{modality}_embedding"
