"""Query the summaries and reports that the health page shows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db.models import QuerySet

from classifier.models import ModelVersion
from feedback.models import DriftReference, HealthSummary, MonitoringReport, Period
from feedback.monitoring.baselines import VersionPair
from feedback.statistics.calibration import fit_calibrator, read_reliability
from feedback.statistics.counters import AnswerCounts, AnswerStatistics, PredictionCounts
from feedback.statistics.performance_estimation import Calibrator

Rows = TypeVar("Rows", bound=QuerySet[Any])

LONGEST_HOURLY_SCOPE = timedelta(days=2)  # longer scopes show days
CALIBRATION_PERIOD = timedelta(days=90)  # whose reviewed products the estimate of accuracy is fitted to
RECENT_PAIRS_PERIOD = timedelta(days=120)  # pairs that answered nothing in it can't be chosen


@dataclass(frozen=True)
class Scope:
    """The predictions to show: finished from `since` to before `until`, by one pair of versions or all (None)."""

    since: datetime
    until: datetime
    pair: VersionPair | None = None

    @property
    def period(self) -> Period:
        """Whether the scope is shown by hours or by days."""
        return Period.HOUR if self.until - self.since <= LONGEST_HOURLY_SCOPE else Period.DAY


@dataclass(frozen=True)
class Breakdown:
    """One value of one breakdown, such as the language "es"."""

    by: str
    key: str


@dataclass
class PeriodFigures:
    """The counts of an hour, a day or a whole scope that begins at `start`."""

    start: datetime
    volume: PredictionCounts = field(default_factory=PredictionCounts)
    answers: AnswerStatistics = field(default_factory=AnswerStatistics)


def load_period_figures(scope: Scope) -> list[PeriodFigures]:
    """Return the summarised hours or days of a scope in order."""
    found: dict[datetime, PeriodFigures] = {}
    rows = HealthSummary.objects.of_period(scope.period).filter(start__gte=scope.since, start__lt=scope.until)
    for row in _of_pair(rows, scope.pair).only("start", "volume", "answers").order_by("start"):
        period = found.setdefault(row.start, PeriodFigures(row.start))
        period.volume.add(PredictionCounts.from_json(row.volume))
        period.answers.add(AnswerStatistics.from_json(row.answers))
    return list(found.values())


def sum_figures(periods: Sequence[PeriodFigures], since: datetime) -> PeriodFigures:
    """Return the sum of the periods as figures that begin at `since`."""
    total = PeriodFigures(since)
    for period in periods:
        total.volume.add(period.volume)
        total.answers.add(period.answers)
    return total


def answer_counts_in(period: PeriodFigures, breakdown: Breakdown | None) -> AnswerCounts:
    """Return the counts of a period's answers, of all or of one breakdown."""
    if breakdown is None:
        return period.answers.counts
    return period.answers.by_breakdown[breakdown.by].get(breakdown.key, AnswerCounts())


def prediction_count_in(period: PeriodFigures, breakdown: Breakdown | None) -> int:
    """Return the number of a period's predictions, of all or of one breakdown."""
    if breakdown is None:
        return period.volume.done
    return period.volume.by_breakdown[breakdown.by][breakdown.key]


def calibrator_before(scope: Scope) -> Calibrator | None:
    """Return the calibrator fitted to the reviewed products of the 90 days before a scope; None with too few."""
    days = HealthSummary.objects.of_period(Period.DAY).filter(
        start__gte=scope.since - CALIBRATION_PERIOD, start__lt=scope.since
    )
    known = AnswerStatistics()
    for content in _of_pair(days, scope.pair).order_by().values_list("answers__reliability", flat=True):
        if content:
            known.add(AnswerStatistics(reliability=read_reliability(content)))
    return fit_calibrator(known.reliability)


def version_pairs(now: datetime) -> dict[str, VersionPair]:
    """Return the pairs that answered lately, the newest first, by their name in an address."""
    days = HealthSummary.objects.of_period(Period.DAY).filter(start__gte=now - RECENT_PAIRS_PERIOD).exclude(
        text_version=None, image_version=None
    )  # fmt: skip
    found = days.order_by().values_list("text_version", "image_version").distinct()
    ordered = sorted(found, key=lambda pair: [-(pk or 0) for pk in pair])
    return {f"{text or 0}-{image or 0}": (text, image) for text, image in ordered}


def versions_by_id(pairs: Sequence[VersionPair]) -> dict[int, ModelVersion]:
    """Return the versions of these pairs by id, without their long reports."""
    ids: set[int] = set()
    for pair in pairs:
        ids.update(pk for pk in pair if pk)
    return ModelVersion.objects.defer("metrics", "lineage").in_bulk(ids)


def latest_drift_reports(scope: Scope) -> list[MonitoringReport]:
    """Return each pair's latest drift report in a scope, on an hour or a day as the scope is shown."""
    reports = MonitoringReport.objects.filter(
        kind=MonitoringReport.Kind.DRIFT, period=scope.period, start__gte=scope.since, start__lt=scope.until
    )
    newest = _of_pair(reports, scope.pair).order_by("text_version_id", "image_version_id", "-start")
    return list(newest.distinct("text_version_id", "image_version_id").select_related("text_version", "image_version"))


def recent_breaches(scope: Scope, limit: int) -> list[MonitoringReport]:
    """Return the reports of a scope with a breach, the newest first."""
    reports = MonitoringReport.objects.filter(breached=True, start__gte=scope.since, start__lt=scope.until)
    return list(_of_pair(reports, scope.pair).defer("figures").order_by("-start", "-pk")[:limit])


def drift_references() -> dict[VersionPair, DriftReference]:
    """Return the baselines by pair, without their data."""
    rows = DriftReference.objects.defer("summary", "projections")
    return {(row.text_version_id, row.image_version_id): row for row in rows}


def _of_pair(rows: Rows, pair: VersionPair | None) -> Rows:
    return rows if pair is None else rows.filter(text_version=pair[0], image_version=pair[1])
