"""Build the reliability diagram of the reviewed products."""

from dataclasses import dataclass

from django.utils.safestring import SafeString

from common import charts
from common.formatting import format_percent
from feedback.monitoring.dashboard.health_data import HealthData
from feedback.statistics.calibration import reliability_diagram
from feedback.statistics.intervals import MINIMUM_ROWS


@dataclass(frozen=True, slots=True)
class CalibrationPanel:
    """The diagram, None with too few rows, the expected calibration error, and the rows behind them."""

    diagram: SafeString | None
    error: str
    rows: int
    minimum_rows: int = MINIMUM_ROWS


def build_calibration(data: HealthData) -> CalibrationPanel:
    """Build the diagram from the random share of the review."""
    rows = int(data.total.answers.ensemble.rows)
    found = reliability_diagram(data.total.answers.reliability)
    if found is None or rows < MINIMUM_ROWS:
        return CalibrationPanel(None, "", rows)
    bins = []
    for each in found.bins:
        bins.append({"count": each.rows, "confidence": each.confidence, "accuracy": each.accuracy})
    return CalibrationPanel(charts.reliability(bins), format_percent(found.error, digits=1), rows)
