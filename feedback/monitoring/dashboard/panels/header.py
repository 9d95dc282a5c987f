"""Build the head of the health page: its period, its filters and what was counted last."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest

from feedback.models import HealthSummary, Period
from feedback.monitoring.dashboard.health_data import HealthData
from feedback.monitoring.dashboard.names import breakdown_sentence, page_address
from feedback.monitoring.dashboard.scope import PERIODS, ScopeForm, covers_days
from feedback.monitoring.queries import Scope
from feedback.statistics.counters import BREAKDOWNS


@dataclass(frozen=True, slots=True)
class PeriodLink:
    """A link to one of the usual periods."""

    name: str
    url: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class HeaderPanel:
    """The form, the scope, and whether there is anything to show.

    `limited_to` is a sentence about the breakdown; `last` is when the last counted hour or day began.
    """

    form: ScopeForm
    periods: Sequence[PeriodLink]
    scope: Scope
    is_hourly: bool
    limited_to: str
    unlimited_url: str
    has_summaries: bool
    last: datetime | None


def build_header(request: HttpRequest, form: ScopeForm, data: HealthData) -> HeaderPanel:
    """Build the head of the page."""
    periods = []
    for days, name in PERIODS.items():
        url = page_address(request, days=days, since=None, until=None)
        periods.append(PeriodLink(str(name), url, covers_days(data.scope, days)))
    return HeaderPanel(
        form=form,
        periods=periods,
        scope=data.scope,
        is_hourly=data.scope.period == Period.HOUR,
        limited_to=breakdown_sentence(data.breakdown, data.category_names),
        unlimited_url=page_address(request, **dict.fromkeys(BREAKDOWNS), true=None, given=None),
        has_summaries=bool(data.periods) or HealthSummary.objects.exists(),
        last=data.periods[-1].start if data.periods else None,
    )
