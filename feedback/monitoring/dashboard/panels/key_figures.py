"""Build the row of key figures of the health page."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.translation import gettext as _

from classifier.models import Modality, Prediction
from common.formatting import format_count, format_duration, format_interval, format_percent
from feedback.models import MonitoringReport
from feedback.monitoring.dashboard.figures import Figure, duration_figure, missing_figure, share_figure
from feedback.monitoring.dashboard.health_data import HealthData
from feedback.monitoring.queries import Scope
from feedback.statistics.counters import PredictionCounts
from feedback.statistics.drift.codes import ColumnState, current_code
from feedback.statistics.intervals import estimate_proportion
from feedback.statistics.performance_estimation import AccuracyEstimate


@dataclass(frozen=True, slots=True)
class KeyFiguresPanel:
    """The figures in their order."""

    figures: Sequence[Figure]


def build_key_figures(data: HealthData) -> KeyFiguresPanel:
    """Build the key figures; on a limited page only those that are counted by breakdown."""
    figures = [Figure(_("Predictions"), format_count(data.prediction_count))]
    if data.breakdown is None:
        figures += _service_figures(data)
    answers = data.answer_counts
    figures += [
        share_figure(answers.proportion("five"), _("Accepted: one of the five suggestions")),
        share_figure(answers.proportion("first"), _("Accepted: the first suggestion")),
        share_figure(answers.proportion("none"), _("No category fits")),
    ]
    if data.breakdown is not None:
        figures.append(share_figure(answers.proportion("right", "reviewed"), _("Correct, of the reviewed")))
        return KeyFiguresPanel(figures)
    figures += [
        share_figure(data.total.answers.ensemble_accuracy(), _("Accuracy, reviewed")),
        _estimated_accuracy(data.estimate_accuracy(data.total)),
        _unusual_inputs(data.total.volume, data.scope),
        _drift(data.reports),
    ]
    return KeyFiguresPanel(figures)


def _service_figures(data: HealthData) -> list[Figure]:
    volume = data.total.volume
    figures = []
    # A failed prediction belongs to no version, so a page about one pair can't show a share of failures.
    if data.scope.pair is None:
        failed = estimate_proportion(volume.failed, volume.done + volume.failed)
        figures.append(share_figure(failed, _("Failed"), digits=2))
    figures.append(_time_to_result(volume))
    return figures


def _time_to_result(volume: PredictionCounts) -> Figure:
    name = _("Time to result")
    median, slow = volume.wait.percentile(0.5), volume.wait.percentile(0.95)
    if median is None or slow is None:
        return missing_figure(name)
    return duration_figure(median, name, _("95%% within %(slow)s") % {"slow": format_duration(slow)})


def _estimated_accuracy(estimate: AccuracyEstimate | None) -> Figure:
    name = _("Accuracy, estimated")
    if estimate is None:
        return missing_figure(name)
    note = format_interval(estimate.low, estimate.high, estimate.rows, digits=1)
    return Figure(name, format_percent(estimate.accuracy, digits=1), note)


def _unusual_inputs(volume: PredictionCounts, scope: Scope) -> Figure:
    """Return the share of out-of-distribution inputs, with a link to those predictions."""
    name, unusual = _("Unusual inputs"), volume.unusual_share()
    if unusual is None and volume.done:
        return missing_figure(name, _("no detector for these versions yet"))
    filters = {
        "unusual__in": ",".join(Prediction.Unusual.values),
        "finished_at__gte": scope.since.isoformat(),
        "finished_at__lt": scope.until.isoformat(),
    }
    for modality, version in zip(Modality.values, scope.pair or (), strict=False):
        if version:
            filters[f"{modality}_version__id__exact"] = str(version)
    url = f"{reverse('admin:classifier_prediction_changelist')}?{urlencode(filters)}"
    return share_figure(unusual, name, url=url)


def _drift(reports: Sequence[MonitoringReport]) -> Figure:
    name = _("Drift")
    if any(report.breached for report in reports):
        return Figure(name, _("found"), _("see below"))
    if not reports:
        return missing_figure(name, _("no baseline to compare with yet"))
    states: set[str] = set()
    for report in reports:
        states.update(current_code(finding["state"]) for finding in report.figures.get("findings", ()))
    if states <= {ColumnState.NOT_ENOUGH_DATA}:
        return missing_figure(name)
    return Figure(name, _("none found"))
