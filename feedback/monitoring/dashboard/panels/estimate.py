"""Build the chart of estimated and reviewed accuracy."""

from dataclasses import dataclass

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from common import charts
from feedback.monitoring.dashboard.health_data import HealthData
from feedback.monitoring.dashboard.panels.over_time import MINIMUM_ROWS_AT_A_POINT, TimeAxis, share_series
from feedback.statistics.counters import PredictionCounts
from feedback.statistics.intervals import MINIMUM_ROWS

# By construction about 1 in 100 ordinary inputs is flagged by each of the two models' detectors.
USUAL_SHARE_OF_UNUSUAL_INPUTS = 0.03


@dataclass(frozen=True, slots=True)
class EstimatePanel:
    """The chart, and how far its estimate can be trusted."""

    chart: SafeString
    has_estimate: bool
    is_too_high: bool
    minimum_rows: int = MINIMUM_ROWS


def build_estimate(data: HealthData) -> EstimatePanel | None:
    """Build the chart; None on a limited page, because confidence is not counted by breakdown."""
    if data.breakdown is not None:
        return None
    axis = TimeAxis.of(data.scope)
    points, band = [], []
    for period in data.periods:
        estimate = data.estimate_accuracy(period)
        if estimate is None:
            continue
        x = axis.position(period.start)
        points.append((x, round(100 * estimate.accuracy, 1)))
        band.append((x, 100 * estimate.low, 100 * estimate.high))
    chart = charts.line(
        title=_("Accuracy, estimated and reviewed"),
        x_label=axis.label,
        y_label=_("%% correct, with 95%% intervals; points of at least %(least)d") % {"least": MINIMUM_ROWS_AT_A_POINT},
        series=[
            {"name": _("estimated"), "points": points, "band": band},
            share_series(
                _("reviewed"), data.periods, axis, lambda part: part.answers.ensemble_accuracy(), with_band=True
            ),
        ],
    )
    return EstimatePanel(
        chart=chart,
        has_estimate=data.estimate_accuracy(data.total) is not None,
        is_too_high=has_many_unusual_inputs(data.total.volume),
    )


def has_many_unusual_inputs(volume: PredictionCounts) -> bool:
    """Return whether the share of out-of-distribution inputs is certainly above the usual one."""
    unusual = volume.unusual_share()
    return unusual is not None and unusual.is_enough and unusual.low > USUAL_SHARE_OF_UNUSUAL_INPUTS
