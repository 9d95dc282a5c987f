"""Load what the panels of the health page are built from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from classifier.models import ModelVersion
from feedback.models import MonitoringReport
from feedback.monitoring import queries
from feedback.monitoring.queries import Breakdown, PeriodFigures, Scope
from feedback.statistics.calibration import estimate_from_histogram
from feedback.statistics.counters import AnswerCounts
from feedback.statistics.performance_estimation import AccuracyEstimate, Calibrator


@dataclass(frozen=True)
class HealthData:
    """The figures of a scope, the drift reports in it, and the names to show them with.

    `periods` are its hours or days in order, `total` their sum; `calibrator` is fitted to the reviewed products before
    the scope, None with too few of them; `category_names` are by slug, `versions` by id.
    """

    scope: Scope
    breakdown: Breakdown | None
    periods: Sequence[PeriodFigures]
    total: PeriodFigures
    calibrator: Calibrator | None
    reports: Sequence[MonitoringReport]
    category_names: Mapping[str, str]
    versions: Mapping[int, ModelVersion]

    @property
    def answer_counts(self) -> AnswerCounts:
        """The counts of answers, of the breakdown if there is one."""
        return queries.answer_counts_in(self.total, self.breakdown)

    @property
    def prediction_count(self) -> int:
        """The number of predictions, of the breakdown if there is one."""
        return queries.prediction_count_in(self.total, self.breakdown)

    def estimate_accuracy(self, period: PeriodFigures) -> AccuracyEstimate | None:
        """Estimate the accuracy of a period from its confidence; None without a calibrator or predictions."""
        if self.calibrator is None:
            return None
        return estimate_from_histogram(period.volume.confidence, self.calibrator)


def load_health_data(
    scope: Scope,
    breakdown: Breakdown | None,
    category_names: Mapping[str, str],
    versions: Mapping[int, ModelVersion],
) -> HealthData:
    """Load the figures and reports of a scope."""
    periods = queries.load_period_figures(scope)
    return HealthData(
        scope=scope,
        breakdown=breakdown,
        periods=periods,
        total=queries.sum_figures(periods, scope.since),
        calibrator=queries.calibrator_before(scope),
        reports=queries.latest_drift_reports(scope),
        category_names=category_names,
        versions=versions,
    )
