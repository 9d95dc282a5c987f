"""Compare hours and days with their baseline, and store what is found as reports.

A report whose breach is new asks for a notification; `feedback.notifications` sends it.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Modality
from common.formatting import format_day, format_minute, format_percent, format_range
from feedback.models import HealthSummary, MonitoringReport, Period
from feedback.monitoring import baselines, windows
from feedback.monitoring.drift_labels import drift_label
from feedback.monitoring.hourly_summaries import DAY, HOUR, add_answers
from feedback.statistics.counters import AnswerStatistics
from feedback.statistics.drift.codes import DriftColumn, current_code
from feedback.statistics.drift.comparison import (
    NOT_ENOUGH_DATA,
    ColumnResult,
    DriftThresholds,
    compare_summaries,
    drifted_columns,
)
from feedback.statistics.drift.summaries import DriftSummary
from feedback.statistics.intervals import Estimate

log = logging.getLogger(__name__)

Kind = MonitoringReport.Kind

REPORTED_AGE = timedelta(days=2)  # older hours and days get no report any more
QUIET_PERIOD = timedelta(days=1)  # in which the same breach is not notified again
QUIET_REPORT_AGE = timedelta(days=30)  # after which an hour's report without a breach is deleted
RECENT_DAYS, EARLIER_DAYS = timedelta(days=7), timedelta(days=28)  # compared for falling accuracy
COLUMNS_OF_MODALITY = {
    Modality.TEXT: {DriftColumn.TEXT_LENGTH, DriftColumn.LANGUAGE, DriftColumn.TEXT_EMBEDDING},
    Modality.IMAGE: {
        DriftColumn.PHOTO_SIZE, DriftColumn.PHOTO_BRIGHTNESS, DriftColumn.PHOTO_SHARPNESS, DriftColumn.IMAGE_EMBEDDING,
    },
}  # fmt: skip
ACCURACY_BREACH = "accuracy"
LARGEST_NUMBER = 1e6  # stands for infinity, which JSON lacks: the distance of a constant that changed


@dataclass(frozen=True)
class _Comparison:
    """A report that is not stored yet, and the columns in which it found a breach."""

    report: MonitoringReport
    breaches: set[str]


def drift_thresholds() -> DriftThresholds:
    """Return the thresholds of the settings."""
    return DriftThresholds(
        alpha=settings.DRIFT_ALPHA,
        wasserstein=settings.DRIFT_DISTANCE,
        jensen_shannon=settings.DRIFT_DISTANCE,
        l_infinity=settings.DRIFT_SHARE,
        auc=settings.DRIFT_AUC,
    )


def write_reports(*, now: datetime | None = None) -> list[MonitoringReport]:
    """Report on each hour and each whole day of the last two days that has no report yet; return the new reports."""
    now = now or timezone.now()
    return [*_write_drift_reports(now), *_write_accuracy_reports(now)]


def delete_quiet_reports(*, now: datetime | None = None) -> int:
    """Delete old reports on hours without a breach; return how many."""
    quiet = MonitoringReport.objects.filter(kind=Kind.DRIFT, period=Period.HOUR, breached=False)
    return quiet.filter(start__lt=(now or timezone.now()) - QUIET_REPORT_AGE).delete()[0]


def _write_drift_reports(now: datetime) -> Iterator[MonitoringReport]:
    for row in _unreported_summaries(Kind.DRIFT, [Period.HOUR, Period.DAY], now):
        # One unreadable summary must not keep the others from being compared.
        try:
            comparison = _compare_drift(HealthSummary.objects.get(pk=row.pk))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            log.exception("Health summary %s can't be compared; the others are.", row.pk)
            continue
        if comparison:
            yield _store_report(comparison)


def _compare_drift(row: HealthSummary) -> _Comparison | None:
    """Compare a summary with its pair's baseline; return None where there is nothing to compare it with."""
    baseline = baselines.load_baseline((row.text_version_id, row.image_version_id))
    if baseline is None or row.drift is None:
        return None
    window = DriftSummary.from_json(row.drift)
    # The summary was binned for an earlier baseline; its histograms can't be compared with this one.
    if window.layout.edges != baseline.layout.edges:
        return None
    window = windows.with_labels(window, AnswerStatistics.from_json(row.answers).labels)
    results = compare_summaries(baseline.summary, window, drift_thresholds())
    drifted = drifted_columns(results)
    report = MonitoringReport(
        kind=Kind.DRIFT,
        modality=_affected_modality(drifted),
        summary=_drift_sentence(row, results),
        figures={"rows": window.rows, "findings": [_result_as_json(result) for result in results]},
        breached=bool(drifted),
        **_period_fields(row),
    )
    return _Comparison(report, {result.column for result in drifted})


def _write_accuracy_reports(now: datetime) -> Iterator[MonitoringReport]:
    for row in _unreported_summaries(Kind.ACCURACY, [Period.DAY], now):
        comparison = _compare_accuracy(row)
        if comparison:
            yield _store_report(comparison)


def _compare_accuracy(row: HealthSummary) -> _Comparison | None:
    """Compare the accuracy of the week up to a day with the four weeks before; return None without enough reviews."""
    until = row.start + DAY
    recent = _reviewed_accuracy(row, until - RECENT_DAYS, until)
    before = _reviewed_accuracy(row, until - RECENT_DAYS - EARLIER_DAYS, until - RECENT_DAYS)
    if not (recent and before and recent.is_enough and before.is_enough):
        return None
    least = before.value - settings.ACCURACY_DROP
    # The whole interval must lie below: a mean that falls by chance is no breach.
    breached = recent.high < least
    words = _("Accuracy on reviewed products of %(pair)s, 7 days to %(day)s: %(recent)s, before that %(before)s.") % {
        "pair": _pair_name(row),
        "day": format_day(row.start),
        "recent": f"{format_percent(recent.value, 1)} ({format_range(recent.low, recent.high, 1)})",
        "before": format_percent(before.value, 1),
    }
    report = MonitoringReport(
        kind=Kind.ACCURACY,
        summary=words,
        figures={"recent": asdict(recent), "before": asdict(before), "least": least},
        breached=breached,
        **_period_fields(row),
    )
    return _Comparison(report, {ACCURACY_BREACH} if breached else set())


def _unreported_summaries(kind: str, periods: Sequence[Period], now: datetime) -> list[HealthSummary]:
    """Return the summaries of pairs without a report of the kind, the oldest first, hours before their day.

    A day is included once its last hour is written.
    """
    last_hour = HealthSummary.objects.of_period(Period.HOUR).values_list("start", flat=True).first()
    if last_hour is None:
        return []
    recent = HealthSummary.objects.defer("drift", "volume", "answers").select_related(
        "text_version", "image_version"
    )  # fmt: skip
    rows = recent.filter(period__in=periods, start__gte=now - REPORTED_AGE, start__lt=now).exclude(
        text_version=None, image_version=None
    )
    if kind == Kind.DRIFT:
        rows = rows.filter(drift__isnull=False)
    reports = MonitoringReport.objects.filter(kind=kind, start__gte=now - REPORTED_AGE)
    reported = set(reports.values_list("period", "start", "text_version", "image_version"))
    found = []
    for row in rows:
        is_complete = row.period == Period.HOUR or row.start + DAY - HOUR <= last_hour
        if is_complete and (row.period, row.start, row.text_version_id, row.image_version_id) not in reported:
            found.append(row)
    return sorted(found, key=lambda row: (row.start + _length_of(row.period), row.period == Period.DAY))


def _store_report(comparison: _Comparison) -> MonitoringReport:
    """Store a report, and decide whether it notifies people and whether it requests retraining."""
    report, breaches = comparison.report, comparison.breaches
    report.figures["breaches"] = sorted(breaches)
    report.notifies = bool(breaches - _known_breaches(report))
    report.asks_retraining = (
        report.breached
        and report.period == Period.DAY
        and settings.RETRAIN_ON_DRIFT
        and MonitoringReport.objects.may_ask_for_retraining()
    )
    report.save()
    return report


def _known_breaches(report: MonitoringReport) -> set[str]:
    """Return the breaches of the previous period, and those that people were notified of within the quiet period."""
    if report.start is None:
        raise ValueError("a report on a comparison is about a period")
    earlier = MonitoringReport.objects.about(report)
    previous = earlier.filter(period=report.period, start__lt=report.start).order_by("-start").first()
    end = report.start + _length_of(report.period)
    notified = earlier.filter(notifies=True, start__gte=report.start - QUIET_PERIOD, start__lt=end)
    known: set[str] = set()
    for row in [*notified, previous]:
        if row is not None:
            # Reports of older versions hold English words instead of codes.
            known.update(current_code(column) for column in row.figures.get("breaches", []))
    return known


def _length_of(period: str) -> timedelta:
    return DAY if period == Period.DAY else HOUR


def _period_fields(row: HealthSummary) -> dict[str, Any]:
    return {
        "text_version_id": row.text_version_id,
        "image_version_id": row.image_version_id,
        "period": row.period,
        "start": row.start,
    }


def _reviewed_accuracy(row: HealthSummary, since: datetime, until: datetime) -> Estimate | None:
    days = HealthSummary.objects.of_period(Period.DAY).filter(
        text_version=row.text_version_id, image_version=row.image_version_id, start__gte=since, start__lt=until
    )
    return add_answers(days.only("answers")).ensemble_accuracy()


def _affected_modality(drifted: Sequence[ColumnResult]) -> str:
    """Return the modality that all drifted columns belong to, or nothing."""
    columns = {result.column for result in drifted}
    for modality, own in COLUMNS_OF_MODALITY.items():
        if columns and columns <= own:
            return modality.value
    return ""


def _drift_sentence(row: HealthSummary, results: Sequence[ColumnResult]) -> str:
    is_day = row.period == Period.DAY
    names = {"pair": _pair_name(row), "when": format_day(row.start) if is_day else f"{format_minute(row.start)} UTC"}
    drifted = drifted_columns(results)
    if drifted:
        columns = "; ".join(_column_words(result) for result in drifted)
        return _("Drift in the inputs of %(pair)s, %(when)s: %(columns)s.") % {**names, "columns": columns}
    if all(result.state == NOT_ENOUGH_DATA for result in results):
        return _("Not enough data to compare the inputs of %(pair)s, %(when)s.") % names
    return _("No drift in the inputs of %(pair)s, %(when)s.") % names


def _column_words(result: ColumnResult) -> str:
    column, measure = drift_label(result.column), drift_label(result.measure)
    if result.p is not None and result.threshold is None:
        return f"{column} ({measure}, p {result.p:.2g})"
    return f"{column} ({measure} {result.value:.2f}, threshold {result.threshold:g})"


def _pair_name(row: HealthSummary) -> str:
    return " + ".join(str(version) for version in (row.text_version, row.image_version) if version)


def _result_as_json(result: ColumnResult) -> dict[str, Any]:
    content = asdict(result) | {"rows": list(result.rows), "also": dict(result.also)}
    for numbers in (content, content["also"]):
        for name, value in numbers.items():
            if isinstance(value, float) and not math.isfinite(value):
                numbers[name] = LARGEST_NUMBER
    return content
