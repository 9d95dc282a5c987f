"""The health page's figures and tables, as its template takes them."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from classifier.models import Modality, ModelVersion, Prediction
from feedback.models import MonitoringReport
from feedback.monitoring import queries
from feedback.monitoring.baselines import VersionPair
from feedback.monitoring.dashboard.formatting import address, interval, part_name, percent, seconds, share
from feedback.monitoring.queries import Breakdown, PeriodFigures, Scope
from feedback.statistics.counters import BREAKDOWNS, COHORTS, MODEL_NAMES, AnswerStatistics, PredictionCounts
from feedback.statistics.drift.two_sample_tests import NOT_ENOUGH_DATA
from feedback.statistics.intervals import accuracy_weights, estimate_proportion
from feedback.statistics.performance_estimation import AccuracyEstimate

ROWS = 12  # of a table by category or language
STRANGE = 0.03  # of the inputs; about 1 in 100 is unusual to each of two models when nothing is


def key_figures(
    whole: PeriodFigures,
    scope: Scope,
    only: Breakdown | None,
    estimated: AccuracyEstimate | None,
    reports: Sequence[MonitoringReport],
) -> list[dict[str, Any]]:
    volume, tally = whole.volume, queries.answer_counts_in(whole, only)
    figures = [{"name": _("Predictions"), "value": f"{queries.prediction_count_in(whole, only):,}"}]
    if not only:
        if scope.pair is None:  # what failed was answered by no version
            failed = estimate_proportion(volume.failed, volume.done + volume.failed)
            figures.append(share(failed, _("Failed"), digits=2))
        figures.append(_time(volume))
    figures += [
        share(tally.share("five"), _("Seller said yes: one of the five")),
        share(tally.share("first"), _("Seller chose the first")),
        share(tally.share("none"), _("None of the categories fits")),
    ]
    if only:
        return [*figures, share(tally.share("right", "reviewed"), _("Right, of the reviewed"))]
    return [
        *figures,
        share(whole.answers.accuracy(), _("Accuracy, reviewed")),
        _estimate(estimated),
        _unusual(volume, scope),
        _drift(reports),
    ]


def is_strange(volume: PredictionCounts) -> bool:
    """Whether surely more inputs are unlike anything known than is ordinary."""
    unlike = volume.unlike()
    return unlike is not None and unlike.is_enough and unlike.low > STRANGE


def models(answers: AnswerStatistics, pair: VersionPair | None, versions: Mapping[int, ModelVersion]) -> dict[str, Any]:
    """Return each model's accuracy, and the weights that follow for the registry where one pair is looked at."""
    titles = {"text": _("Text model"), "image": _("Image model"), "ensemble": _("Both together")}
    together, apart = answers.by_model(), answers.by_itself()
    wanted = accuracy_weights(together)
    now = _registered(pair, versions)
    rows = [
        {
            "name": titles[name],
            "both": share(together[name]),
            "alone": share(apart[name]) if name in apart else None,
            "wanted": percent(wanted[name]) if wanted and name in wanted else "",
            "now": percent(now[name]) if name in now else "",
        }
        for name in MODEL_NAMES
    ]
    return {"rows": rows, "wanted": wanted, "now": now}


def tables(whole: PeriodFigures, names: Mapping[str, str], request: HttpRequest) -> list[dict[str, Any]]:
    """Return the categories and languages with the most predictions, and all cohorts, each a way to look closer."""
    titles = {
        "category": _("By predicted category"),
        "cohort": _("By how long sellers have been here"),
        "language": _("By language"),
    }
    return [{"title": title, **_table(by, whole, names, request)} for by, title in titles.items()]


def _table(by: str, whole: PeriodFigures, names: Mapping[str, str], request: HttpRequest) -> dict[str, Any]:
    counts, tallies = whole.volume.by[by], whole.answers.by[by]
    keys = [*COHORTS] if by == "cohort" else [key for key, _count in counts.most_common(ROWS)]
    rows = []
    for key in keys:
        tally = tallies.get(key)
        rows.append(
            {
                "name": part_name(by, key, names),
                "url": address(request, **{**dict.fromkeys(BREAKDOWNS), by: key}) if key else "",
                "count": f"{counts[key]:,}",
                "cells": [
                    share(tally.share(*of) if tally else None) for of in (("five",), ("first",), ("right", "reviewed"))
                ],
            }
        )
    return {
        "rows": rows,
        "more": max(len(counts) - len(rows), 0),
        "is_of_sellers": by == "cohort",
        "untold": whole.volume.done - counts.total() if by == "cohort" else 0,
    }


def _registered(pair: VersionPair | None, versions: Mapping[int, ModelVersion]) -> dict[str, float]:
    """Return the shares that the registered accuracies of a pair give its two models."""
    found = [versions.get(pk) for pk in pair or () if pk]
    if len(found) != 2 or None in found:
        return {}
    accuracies = {version.modality: version.accuracy for version in found if version}
    total = sum(accuracies.values())
    return {name: value / total for name, value in accuracies.items()} if total else {}


def _time(volume: PredictionCounts) -> dict[str, Any]:
    name = _("Time to the answer")
    median, slow = volume.wait.percentile(0.5), volume.wait.percentile(0.95)
    if median is None or slow is None:
        return {"name": name, "missing": _("not enough data")}
    return {"name": name, "value": seconds(median), "note": _("95 in 100 within %(slow)s") % {"slow": seconds(slow)}}


def _estimate(estimated: AccuracyEstimate | None) -> dict[str, Any]:
    name = _("Accuracy, estimated")
    if estimated is None:
        return {"name": name, "missing": _("not enough data")}
    note = interval(estimated.low, estimated.high, estimated.rows)
    return {"name": name, "value": percent(estimated.accuracy), "note": note}


def _unusual(volume: PredictionCounts, scope: Scope) -> dict[str, Any]:
    """Return the share of inputs unlike anything known, which leads to the predictions."""
    name, unlike = _("Unlike anything known"), volume.unlike()
    if unlike is None and volume.done:
        return {"name": name, "missing": _("not learnt yet by these versions")}
    wanted = {
        "unusual__in": ",".join(Prediction.Unusual.values),
        "finished_at__gte": scope.since.isoformat(),
        "finished_at__lt": scope.until.isoformat(),
    }
    for modality, version in zip(Modality.values, scope.pair or (), strict=False):
        if version:
            wanted[f"{modality}_version__id__exact"] = str(version)
    url = f"{reverse('admin:classifier_prediction_changelist')}?{urlencode(wanted)}"
    return {**share(unlike, name), "url": url}


def _drift(reports: Sequence[MonitoringReport]) -> dict[str, Any]:
    name = _("Drift")
    if any(report.breached for report in reports):
        return {"name": name, "value": _("found"), "note": _("see below")}
    if not reports:
        return {"name": name, "missing": _("nothing to compare with yet")}
    findings = [finding for report in reports for finding in report.figures.get("findings", ())]
    if all(finding["state"] == NOT_ENOUGH_DATA for finding in findings):
        return {"name": name, "missing": _("not enough data")}
    return {"name": name, "value": _("none found")}
