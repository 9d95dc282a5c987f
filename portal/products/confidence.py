"""Express a calibrated probability in words."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Confidence(models.TextChoices):
    """A calibrated probability in words."""

    VERY_LIKELY = "very_likely", _("Very likely")
    LIKELY = "likely", _("Likely")
    NOT_SURE = "not_sure", _("Not sure: please check")


def confidence(probability: float) -> Confidence:
    if probability >= settings.VERY_LIKELY:
        return Confidence.VERY_LIKELY
    return Confidence.LIKELY if probability >= settings.LIKELY else Confidence.NOT_SURE
