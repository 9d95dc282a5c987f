"""Filter the list of products by query parameters."""

import re
from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_filters.fields import ChoiceField, IsoDateTimeField

from portal.models import Product
from portal.products.forms import AcceptsFormerStates

# A time zone behind a space: the plus sign between them was not escaped.
UNESCAPED_PLUS = re.compile(r"\d\d +\d\d(:?\d\d)?\s*$", re.ASCII)


BEST_MATCH = "best_match"


class GivenValues(forms.Form):
    """A form that rejects filters without a value: an empty date is a mistake and doesn't mean any date."""

    def clean(self) -> dict[str, Any]:
        for name, field in self.fields.items():
            if type(field) is not forms.CharField and self.data.get(name) == "":
                self.add_error(name, ValidationError(_("This must not be empty."), code="empty"))
        return self.cleaned_data


class MomentField(IsoDateTimeField):
    """A time converted to UTC: PostgreSQL rejects some time zones that Python accepts."""

    # django-filter formats every message with its parameters, also where there are none: a percent sign is doubled.
    default_error_messages = {
        "invalid": _lazy("Write a time as 2026-11-29T10:00:00Z, or with a time zone as 2026-11-29T11:00:00%%2B01:00."),
        "unescaped_plus": _lazy(
            "The plus sign of the time zone arrived as a space: in an address, write %%2B for it. Or give the time in "
            "UTC, with Z at its end: 2026-11-29T10:00:00Z."
        ),
    }

    def clean(self, value: Any) -> datetime | None:
        if isinstance(value, str) and UNESCAPED_PLUS.search(value):
            raise ValidationError(self.error_messages["unescaped_plus"], code="unescaped_plus")
        moment: datetime | None = super().clean(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError as error:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from error


class MomentFilter(django_filters.IsoDateTimeFilter):
    field_class = MomentField


class StateFilterField(AcceptsFormerStates, ChoiceField):
    pass


class StateFilter(django_filters.ChoiceFilter):
    field_class = StateFilterField


class ProductFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(
        method="matching",
        label=(
            "Beginnings or stems of words in title, SKU, description or the chosen category's names; or the whole SKU."
        ),
    )
    sort = django_filters.ChoiceFilter(
        choices=[("newest", "newest"), (BEST_MATCH, BEST_MATCH)],
        method="selected_by_view",
        label="The newest first, or with `q` the best matches: at most 500, which may change places between pages.",
    )
    state = StateFilter(choices=Product.State.choices, method="in_state", label="The product's state.")
    category = django_filters.CharFilter("category__slug", label="The chosen category's slug.")
    sku = django_filters.CharFilter("sku", label="Exactly this SKU.")
    deleted = django_filters.ChoiceFilter(
        choices=[("true", "true"), ("false", "false")],
        method="selected_by_view",
        label="True: the products in the trash instead of the others.",
    )
    created_after = MomentFilter("created_at", "gte", label="Created at this time or later.")
    created_before = MomentFilter("created_at", "lt", label="Created before this time.")

    class Meta:
        model = Product
        fields: list[str] = []
        form = GivenValues

    def matching(self, products: Any, name: str, value: str) -> Any:
        # The best matches are found where they are paged.
        return products if self.data.get("sort") == BEST_MATCH else products.matching(value)

    def selected_by_view(self, products: Any, name: str, value: str) -> Any:
        return products  # the view lists the trash only where it is asked for, also without a filter

    def in_state(self, products: Any, name: str, value: str) -> Any:
        return products.in_state(Product.State(value))
