"""Read from the address which period, versions and breakdown the health page shows."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _later

from common.date_fields import DayField
from feedback.monitoring.baselines import VersionPair
from feedback.monitoring.queries import Breakdown, Scope
from feedback.statistics.counters import BREAKDOWNS

PERIODS = {1: _later("1 day"), 7: _later("7 days"), 30: _later("30 days"), 90: _later("90 days")}
DEFAULT_DAYS = 7
MAX_PERIOD = timedelta(days=92)
COHORT_LABELS = {
    "month": _later("less than 30 days"),
    "year": _later("30 days to a year"),
    "longer": _later("a year or more"),
}


class ScopeForm(forms.Form):
    """The period, the versions and one breakdown; an empty field limits nothing."""

    since = DayField(label=_later("From"))
    until = DayField(label=_later("To"))
    pair = forms.ChoiceField(label=_later("Versions"), required=False)
    category = forms.ChoiceField(label=_later("Predicted category"), required=False)
    cohort = forms.ChoiceField(label=_later("Seller here for"), required=False)
    language = forms.CharField(label=_later("Language"), required=False, max_length=8, widget=forms.HiddenInput)
    days = forms.TypedChoiceField(required=False, coerce=int, choices=PERIODS.items(), widget=forms.HiddenInput)

    def __init__(self, data: QueryDict, pairs: Mapping[str, str], names: Mapping[str, str]) -> None:
        super().__init__(data, auto_id="health_%s")
        cohorts = {key: capfirst(name) for key, name in COHORT_LABELS.items()}
        for field, choices in (("pair", pairs), ("category", names), ("cohort", cohorts)):
            self.fields[field].choices = [("", _("All")), *choices.items()]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and until < since:
            self.add_error("until", _("This day is before the first one."))
        elif until and not since and "since" not in self.errors:
            self.add_error("since", _("Choose the first day as well."))
        elif since and (until or _today()) - since > MAX_PERIOD:
            self.add_error("since", _("At most %(days)d days can be shown at once.") % {"days": MAX_PERIOD.days})
        if cleaned.get("category") and cleaned.get("cohort"):
            self.add_error("cohort", _("Choose a category or this, not both: figures are kept by one at a time."))
        return cleaned

    def scope(self, pairs: Mapping[str, VersionPair]) -> Scope:
        """Return the scope to show; a field with an error counts as empty."""
        chosen = getattr(self, "cleaned_data", {})
        pair = pairs.get(chosen.get("pair", ""))
        tomorrow = _midnight(_today()) + timedelta(days=1)
        if since := chosen.get("since"):
            last = min(chosen.get("until") or _today(), _today())
            return Scope(_midnight(since), _midnight(last) + timedelta(days=1), pair)
        days = chosen.get("days") or DEFAULT_DAYS
        if days == 1:
            hour = timezone.now().replace(minute=0, second=0, microsecond=0)
            return Scope(hour - timedelta(days=1), hour + timedelta(hours=1), pair)
        return Scope(tomorrow - timedelta(days=days), tomorrow, pair)

    def breakdown(self) -> Breakdown | None:
        """Return the value that the page is limited to; None for all products."""
        chosen = getattr(self, "cleaned_data", {})
        # In the order of the breakdowns, so that a visible field wins over the hidden one for the language.
        for by in BREAKDOWNS:
            if chosen.get(by):
                return Breakdown(by, chosen[by])
        return None


def covers_days(scope: Scope, days: int) -> bool:
    """Return whether the scope is that many days up to now."""
    return scope.until >= timezone.now() and (scope.until - scope.since).days == days


def _today() -> date:
    return datetime.now(UTC).date()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
