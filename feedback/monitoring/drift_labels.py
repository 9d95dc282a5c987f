"""Name the codes of drift in words for people."""

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from feedback.statistics.drift.codes import ColumnState, DriftColumn, InputKind, Measure, current_code

LABELS: Mapping[str, str | Promise] = {
    DriftColumn.INPUTS: _("inputs"),
    DriftColumn.LANGUAGE: _("language"),
    DriftColumn.PREDICTION: _("predicted category"),
    DriftColumn.LABEL: _("final category"),
    DriftColumn.TEXT_LENGTH: _("text length"),
    DriftColumn.PHOTO_SIZE: _("photo size"),
    DriftColumn.PHOTO_BRIGHTNESS: _("photo brightness"),
    DriftColumn.PHOTO_SHARPNESS: _("photo sharpness"),
    DriftColumn.CONFIDENCE: _("confidence"),
    DriftColumn.TEXT_EMBEDDING: _("text embedding"),
    DriftColumn.IMAGE_EMBEDDING: _("image embedding"),
    InputKind.TEXT_AND_PHOTO: _("text and photo"),
    InputKind.TEXT: _("text"),
    InputKind.PHOTO: _("photo"),
    InputKind.NOTHING: _("nothing"),
    ColumnState.STABLE: _("stable"),
    ColumnState.DRIFTED: _("drifted"),
    ColumnState.NOT_ENOUGH_DATA: _("not enough data"),
    Measure.KOLMOGOROV_SMIRNOV: _("Kolmogorov-Smirnov"),
    Measure.WASSERSTEIN: _("Wasserstein"),
    Measure.CHI_SQUARE: _("chi-square"),
    Measure.JENSEN_SHANNON: _("Jensen-Shannon"),
    Measure.L_INFINITY: _("L-infinity"),
    Measure.STABILITY_INDEX: _("stability index"),
    Measure.DOMAIN_CLASSIFIER: _("domain classifier"),
}


def drift_label(stored: str) -> str:
    """Return the words for a code, also for one that an older version stored; an unknown one stays as it is."""
    code = current_code(stored)
    return str(LABELS.get(code, code))
