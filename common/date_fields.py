"""Form fields for dates."""

from datetime import date
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils.translation import gettext_lazy as _

EARLIEST, LATEST = date(2000, 1, 1), date(2999, 12, 31)


class DayField(forms.DateField):
    """An optional date from 2000 to 2999, so that adding to it always gives a valid date."""

    default_validators = [
        MinValueValidator(EARLIEST, _("There is nothing from before the year 2000.")),
        MaxValueValidator(LATEST, _("This day is too far ahead.")),
    ]

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, widget=forms.DateInput(attrs={"type": "date"}), **options)
