"""Summaries as the health page shows them: one stretch of figures for each hour or day, and their total."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db.models import QuerySet

from classifier.models import ModelVersion
from feedback.models import DriftReference, HealthSummary, MonitoringReport, Period
from feedback.monitoring.baselines import VersionPair
from feedback.statistics.counters import AnswerCounts, AnswerStatistics, PredictionCounts, fit_calibrator
from feedback.statistics.performance_estimation import Calibrator

Rows = TypeVar("Rows", bound=QuerySet[Any])

BY_HOUR = timedelta(days=2)  # up to which the page shows hours
LABELLED = timedelta(days=90)  # whose reviewed products the estimate of accuracy is fitted to
AT_WORK = timedelta(days=120)


@dataclass(frozen=True)
class Scope:
    """What is looked at: finished from `since` to before `until`, by one pair of versions or by all (None)."""

    since: datetime
    until: datetime
    pair: VersionPair | None = None

    @property
    def period(self) -> Period:
        return Period.HOUR if self.until - self.since <= BY_HOUR else Period.DAY


@dataclass(frozen=True)
class Breakdown:
    """One value of one breakdown that is looked at by itself, such as the language "es"."""

    by: str
    key: str


@dataclass
class PeriodFigures:
    start: datetime
    volume: PredictionCounts = field(default_factory=PredictionCounts)
    answers: AnswerStatistics = field(default_factory=AnswerStatistics)


def load_period_figures(scope: Scope) -> list[PeriodFigures]:
    """Return the stretches that were summarised, in order of time."""
    found: dict[datetime, PeriodFigures] = {}
    rows = HealthSummary.objects.of(scope.period).filter(start__gte=scope.since, start__lt=scope.until)
    for row in _of_pair(rows, scope.pair).only("start", "volume", "answers").order_by("start"):
        stretch = found.setdefault(row.start, PeriodFigures(row.start))
        stretch.volume.add(PredictionCounts.from_json(row.volume))
        stretch.answers.add(AnswerStatistics.from_json(row.answers))
    return list(found.values())


def sum_figures(parts: Sequence[PeriodFigures], since: datetime) -> PeriodFigures:
    whole = PeriodFigures(since)
    for part in parts:
        whole.volume.add(part.volume)
        whole.answers.add(part.answers)
    return whole


def answer_counts_in(stretch: PeriodFigures, only: Breakdown | None) -> AnswerCounts:
    return stretch.answers.by[only.by].get(only.key, AnswerCounts()) if only else stretch.answers.counts


def prediction_count_in(stretch: PeriodFigures, only: Breakdown | None) -> int:
    return stretch.volume.by[only.by][only.key] if only else stretch.volume.done


def calibrator_before(scope: Scope) -> Calibrator | None:
    """Return the calibrator fitted to what was reviewed of the 90 days before; None with too little."""
    days = HealthSummary.objects.of(Period.DAY).filter(start__gte=scope.since - LABELLED, start__lt=scope.since)
    known = AnswerStatistics()
    for content in _of_pair(days, scope.pair).order_by().values_list("answers__reliability", flat=True):
        if content:
            known.add(AnswerStatistics(reliability={int(step): sums for step, sums in content.items()}))
    return fit_calibrator(known.reliability)


def version_pairs(now: datetime) -> dict[str, VersionPair]:
    """Return the pairs that answered lately, the newest first, by their name in an address."""
    days = HealthSummary.objects.of(Period.DAY).filter(start__gte=now - AT_WORK).exclude(
        text_version=None, image_version=None
    )  # fmt: skip
    found = days.order_by().values_list("text_version", "image_version").distinct()
    ordered = sorted(found, key=lambda pair: [-(pk or 0) for pk in pair])
    return {f"{text or 0}-{image or 0}": (text, image) for text, image in ordered}


def versions_by_id(found: Sequence[VersionPair]) -> dict[int, ModelVersion]:
    """Return the versions of these pairs by their id."""
    ids = {pk for pair in found for pk in pair if pk}
    return ModelVersion.objects.defer("metrics", "lineage").in_bulk(ids)


def latest_drift_reports(scope: Scope) -> list[MonitoringReport]:
    """Return each pair's latest report on drift within the scope: on a day, or on an hour where hours are shown."""
    reports = MonitoringReport.objects.filter(
        kind=MonitoringReport.Kind.DRIFT, period=scope.period, start__gte=scope.since, start__lt=scope.until
    )
    newest = _of_pair(reports, scope.pair).order_by("text_version_id", "image_version_id", "-start")
    return list(newest.distinct("text_version_id", "image_version_id").select_related("text_version", "image_version"))


def recent_breaches(scope: Scope, most: int) -> list[MonitoringReport]:
    reports = MonitoringReport.objects.filter(breached=True, start__gte=scope.since, start__lt=scope.until)
    return list(_of_pair(reports, scope.pair).defer("figures").order_by("-start", "-pk")[:most])


def drift_references() -> dict[VersionPair, DriftReference]:
    rows = DriftReference.objects.defer("summary", "projections")
    return {(row.text_version_id, row.image_version_id): row for row in rows}


def _of_pair(rows: Rows, pair: VersionPair | None) -> Rows:
    return rows if pair is None else rows.filter(text_version=pair[0], image_version=pair[1])
