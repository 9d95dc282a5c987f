"""Hours and days are held against their reference; what is found becomes a report, and a breach is told once."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Modality
from feedback.models import HealthSummary, MonitoringReport, Period
from feedback.monitoring import baselines, windows
from feedback.monitoring.hourly_summaries import DAY, HOUR, add_answers
from feedback.statistics.counters import AnswerStatistics
from feedback.statistics.drift.summaries import DriftSummary
from feedback.statistics.drift.two_sample_tests import (
    NOT_ENOUGH_DATA,
    ColumnResult,
    DriftThresholds,
    compare_summaries,
    drifted_columns,
)
from feedback.statistics.intervals import Estimate

log = logging.getLogger(__name__)

Kind = MonitoringReport.Kind

RECENT = timedelta(days=2)  # what is older is not reported any more
PAUSE = timedelta(days=1)  # in which the same breach is not told again
KEPT = timedelta(days=30)  # an hour's report that found nothing
NEWER, EARLIER = timedelta(days=7), timedelta(days=28)  # what falling accuracy compares
COLUMNS_OF = {
    Modality.TEXT: {"text length", "language", "text embedding"},
    Modality.IMAGE: {"photo size", "photo brightness", "photo sharpness", "image embedding"},
}
LARGEST = 1e6  # JSON has no infinity: a constant that changed


def drift_thresholds() -> DriftThresholds:
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
    return [*_drift(now), *_accuracy(now)]


def delete_quiet_reports(*, now: datetime | None = None) -> int:
    """Delete old reports on hours that found nothing; return how many."""
    quiet = MonitoringReport.objects.filter(kind=Kind.DRIFT, period=Period.HOUR, breached=False)
    return quiet.filter(start__lt=(now or timezone.now()) - KEPT).delete()[0]


def _drift(now: datetime) -> Iterator[MonitoringReport]:
    for row in _unreported(Kind.DRIFT, [Period.HOUR, Period.DAY], now):
        try:
            compared = _compare(HealthSummary.objects.get(pk=row.pk))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            log.exception("Health summary %s can't be compared; the others are.", row.pk)
            continue
        if compared:
            yield _keep(*compared)


def _compare(whole: HealthSummary) -> tuple[MonitoringReport, set[str]] | None:
    """Return the report on a summary and the columns that drifted; None where there is nothing to compare it with."""
    reference = baselines.load_baseline((whole.text_version_id, whole.image_version_id))
    if reference is None or whole.drift is None:
        return None
    window = DriftSummary.from_json(whole.drift)
    if window.layout.edges != reference.layout.edges:  # it was binned for an earlier reference
        return None
    window = windows.with_labels(window, AnswerStatistics.from_json(whole.answers).labels)
    findings = compare_summaries(reference.summary, window, drift_thresholds())
    found = drifted_columns(findings)
    report = MonitoringReport(
        kind=Kind.DRIFT,
        modality=_modality(found),
        summary=_told(whole, findings),
        figures={"rows": window.rows, "findings": [_plain(finding) for finding in findings]},
        breached=bool(found),
        **_about(whole),
    )
    return report, {finding.column for finding in found}


def _accuracy(now: datetime) -> Iterator[MonitoringReport]:
    for row in _unreported(Kind.ACCURACY, [Period.DAY], now):
        until = row.start + DAY
        recent = _reviewed(row, until - NEWER, until)
        before = _reviewed(row, until - NEWER - EARLIER, until - NEWER)
        if not (recent and before and recent.is_enough and before.is_enough):
            continue
        least = before.value - settings.ACCURACY_DROP
        breached = recent.high < least
        words = _(
            "Accuracy on reviewed products of %(pair)s, 7 days to %(day)s: %(recent)s, before that %(before).1f %%."
        ) % {
            "pair": _pair(row),
            "day": f"{row.start:%Y-%m-%d}",
            "recent": f"{100 * recent.value:.1f} % ({100 * recent.low:.1f} – {100 * recent.high:.1f} %)",
            "before": 100 * before.value,
        }
        yield _keep(
            MonitoringReport(
                kind=Kind.ACCURACY,
                summary=words,
                figures={"recent": asdict(recent), "before": asdict(before), "least": least},
                breached=breached,
                **_about(row),
            ),
            {"accuracy"} if breached else set(),
        )


def _unreported(kind: str, periods: Sequence[Period], now: datetime) -> list[HealthSummary]:
    """Return the summaries of pairs that no report of the kind is about yet, the oldest first, hours before their day.

    A day counts once its last hour is written.
    """
    last = HealthSummary.objects.of(Period.HOUR).values_list("start", flat=True).first()
    if last is None:
        return []
    recent = HealthSummary.objects.light().defer("drift", "volume", "answers").select_related(
        "text_version", "image_version"
    )  # fmt: skip
    rows = recent.filter(period__in=periods, start__gte=now - RECENT, start__lt=now).exclude(
        text_version=None, image_version=None
    )
    if kind == Kind.DRIFT:
        rows = rows.filter(drift__isnull=False)
    reports = MonitoringReport.objects.filter(kind=kind, start__gte=now - RECENT)
    known = set(reports.values_list("period", "start", "text_version", "image_version"))
    found = [
        row
        for row in rows
        if (row.period, row.start, row.text_version_id, row.image_version_id) not in known
        and (row.period == Period.HOUR or row.start + DAY - HOUR <= last)
    ]
    return sorted(found, key=lambda row: (row.start + (DAY if row.period == Period.DAY else HOUR), row.period == "day"))


def _keep(report: MonitoringReport, breaches: set[str]) -> MonitoringReport:
    """Store a report; say whether it is news, and whether it asks for retraining."""
    report.figures["breaches"] = sorted(breaches)
    report.notifies = bool(breaches - _known(report))
    report.asks_retraining = (
        report.breached
        and report.period == Period.DAY
        and settings.RETRAIN_ON_DRIFT
        and MonitoringReport.objects.may_ask_for_retraining()
    )
    report.save()
    return report


def _known(report: MonitoringReport) -> set[str]:
    """Return what was breached in the period before, so that it isn't new, and what was told a short while ago."""
    earlier = MonitoringReport.objects.about(report)
    last = earlier.filter(period=report.period, start__lt=report.start).order_by("-start").first()
    assert report.start is not None  # noqa: S101 - a watcher's reports are about a period
    span = DAY if report.period == Period.DAY else HOUR
    told = earlier.filter(notifies=True, start__gte=report.start - PAUSE, start__lt=report.start + span)
    return {column for each in [*told, *([last] if last else [])] for column in each.figures.get("breaches", [])}


def _about(row: HealthSummary) -> dict[str, Any]:
    return {
        "text_version_id": row.text_version_id,
        "image_version_id": row.image_version_id,
        "period": row.period,
        "start": row.start,
    }


def _reviewed(row: HealthSummary, since: datetime, until: datetime) -> Estimate | None:
    days = HealthSummary.objects.of(Period.DAY).filter(
        text_version=row.text_version_id, image_version=row.image_version_id, start__gte=since, start__lt=until
    )
    return add_answers(days.only("answers")).accuracy()


def _modality(found: Sequence[ColumnResult]) -> str:
    """Return the model that the columns are about, if they are about one alone."""
    columns = {finding.column for finding in found}
    return next((kind.value for kind, own in COLUMNS_OF.items() if columns and columns <= own), "")


def _told(row: HealthSummary, findings: Sequence[ColumnResult]) -> str:
    where = {
        "pair": _pair(row),
        "when": f"{row.start:%Y-%m-%d}" if row.period == Period.DAY else f"{row.start:%Y-%m-%d %H:%M} UTC",
    }
    if found := drifted_columns(findings):
        what = "; ".join(_finding(finding) for finding in found)
        return _("Drift in what %(pair)s were asked, %(when)s: %(what)s.") % {**where, "what": what}
    if all(finding.state == NOT_ENOUGH_DATA for finding in findings):
        return _("Not enough data to say anything of %(pair)s, %(when)s.") % where
    return _("No drift in what %(pair)s were asked, %(when)s.") % where


def _finding(finding: ColumnResult) -> str:
    if finding.p is not None and finding.threshold is None:
        return f"{finding.column} ({finding.measure}, p {finding.p:.2g})"
    return f"{finding.column} ({finding.measure} {finding.value:.2f}, threshold {finding.threshold:g})"


def _pair(row: HealthSummary) -> str:
    return " + ".join(str(version) for version in (row.text_version, row.image_version) if version)


def _plain(finding: ColumnResult) -> dict[str, Any]:
    """Return the finding as JSON can hold it."""
    content = asdict(finding) | {"rows": list(finding.rows), "also": dict(finding.also)}
    for numbers in (content, content["also"]):
        for name, value in numbers.items():
            if isinstance(value, float) and not math.isfinite(value):
                numbers[name] = LARGEST
    return content
