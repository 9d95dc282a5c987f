"""Build the charts of predictions, answers and times over the hours or days of a scope."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from common import charts
from common.formatting import format_minute
from feedback.models import Period
from feedback.monitoring import queries
from feedback.monitoring.dashboard.health_data import HealthData
from feedback.monitoring.queries import PeriodFigures, Scope
from feedback.statistics.intervals import Estimate

MINIMUM_ROWS_AT_A_POINT = 20

Points = list[tuple[float, float]]
Measure = Callable[[PeriodFigures], Estimate | None]


@dataclass(frozen=True, slots=True)
class OverTimePanel:
    """The charts; without `time` on a page that is limited to a breakdown."""

    predictions: SafeString
    answers: SafeString
    time: SafeString | None


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The position of a period on the charts' x-axis: hours or days before the end of the scope, or before now."""

    unit: timedelta
    end: datetime
    is_last_complete: bool

    @classmethod
    def of(cls, scope: Scope) -> "TimeAxis":
        """Return the axis of a scope."""
        unit = timedelta(hours=1) if scope.period == Period.HOUR else timedelta(days=1)
        end = min(scope.until, timezone.now())
        return cls(unit, end, end >= scope.until)

    @property
    def label(self) -> str:
        """The caption of the axis."""
        words = _("hours; 0 is %(end)s UTC") if self.is_hourly else _("days; 0 is %(end)s UTC")
        return words % {"end": format_minute(self.end)}

    @property
    def is_hourly(self) -> bool:
        """Whether a period is an hour."""
        return self.unit < timedelta(days=1)

    def position(self, start: datetime) -> float:
        """Return the position of the middle of the period that begins at `start`."""
        # The current day is not over: only its elapsed part is counted.
        elapsed = min(self.unit, self.end - start)
        return (start + elapsed / 2 - self.end) / self.unit


def build_over_time(data: HealthData) -> OverTimePanel:
    """Build the charts of a scope."""
    axis = TimeAxis.of(data.scope)
    return OverTimePanel(
        predictions=_predictions_chart(data, axis),
        answers=_answers_chart(data, axis),
        time=_time_chart(data, axis) if data.breakdown is None else None,
    )


def share_series(
    name: str, periods: Sequence[PeriodFigures], axis: TimeAxis, measure: Measure, *, with_band: bool = False
) -> dict[str, Any]:
    """Return a line of percentages over the periods that have enough rows, with the band of intervals if wanted."""
    points: Points = []
    band = []
    for period in periods:
        estimate = measure(period)
        if estimate is None or estimate.effective < MINIMUM_ROWS_AT_A_POINT:
            continue
        x = axis.position(period.start)
        points.append((x, round(100 * estimate.value, 1)))
        if with_band:
            band.append((x, 100 * estimate.low, 100 * estimate.high))
    return {"name": name, "points": points, "band": band}


def _predictions_chart(data: HealthData, axis: TimeAxis) -> SafeString:
    counts: Points = []
    for period in data.periods:
        counts.append((axis.position(period.start), queries.prediction_count_in(period, data.breakdown)))
    has_any = any(count for _x, count in counts)
    return charts.line(
        title=_("Predictions"),
        x_label=axis.label,
        y_label=_count_label(axis),
        series=[{"name": _("Predictions"), "points": counts}] if has_any else [],
        from_zero=True,
    )


def _count_label(axis: TimeAxis) -> str:
    if axis.is_hourly:
        return _("per hour")
    return _("per day") if axis.is_last_complete else _("per day; the last day isn't over")


def _answers_chart(data: HealthData, axis: TimeAxis) -> SafeString:
    def share_of(name: str) -> Measure:
        return lambda period: queries.answer_counts_in(period, data.breakdown).proportion(name)

    return charts.line(
        title=_("Sellers' answers"),
        x_label=axis.label,
        y_label=_("%% of answers; points of at least %(least)d") % {"least": MINIMUM_ROWS_AT_A_POINT},
        series=[
            share_series(_("accepted: one of the five"), data.periods, axis, share_of("five")),
            share_series(_("accepted: the first"), data.periods, axis, share_of("first")),
        ],
    )


def _time_chart(data: HealthData, axis: TimeAxis) -> SafeString:
    return charts.line(
        title=_("Time to result"),
        x_label=axis.label,
        y_label=_("seconds"),
        series=[
            {"name": _("median"), "points": _waiting_times(data, axis, 0.5)},
            {"name": _("95th percentile"), "points": _waiting_times(data, axis, 0.95)},
        ],
    )


def _waiting_times(data: HealthData, axis: TimeAxis, share: float) -> Points:
    points: Points = []
    for period in data.periods:
        milliseconds = period.volume.wait.percentile(share)
        if milliseconds is not None:
            points.append((axis.position(period.start), milliseconds / 1000))
    return points
