"""Show the staff's page that compares the versions of one modality: live ones, shadows, and those just stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _later

from classifier.admin.confirmation import DEPLOY
from classifier.models import Deployment, Modality, ModelVersion, Variant
from classifier.registry import deployments
from common import charts
from common.formatting import MISSING, format_count, format_duration, format_interval, format_percent
from feedback.experiments.counts import (
    VersionCounts,
    VersionPeriod,
    count_stale_hours,
    find_uncounted_period,
    first_choice_over_time,
    read_version_periods,
    sum_by_version,
)
from feedback.statistics.intervals import MINIMUM_ROWS
from feedback.statistics.proportions import Proportion

PERIODS = {1: _later("1 day"), 7: _later("7 days"), 30: _later("30 days")}
DEFAULT_DAYS = 7  # while no experiment runs
MINIMUM_ROWS_OF_POINT = 20
LATEST_DEPLOYMENTS = 6
Measures = Sequence[tuple[str | Promise, Callable[[VersionCounts], Proportion]]]
LIVE_MEASURES: Measures = (
    (_later("Seller chose the first suggestion"), lambda counts: counts.first_choice_share),
    (_later("Seller chose one of the five"), lambda counts: counts.top5_share),
)
SHADOW_MEASURES: Measures = ((_later("Agrees with the live model"), lambda counts: counts.agreement),)


@dataclass(frozen=True)
class Column:
    """One version on the page; without a variant it was stopped within the period."""

    version: ModelVersion
    variant: Variant | None
    counts: VersionCounts

    @property
    def state(self) -> str:
        if self.variant is None:
            return _("Stopped")
        if self.variant.is_live:
            return _("Live, %(weight)d%%") % {"weight": self.variant.weight}
        return _("Shadow")

    @property
    def colour(self) -> str:
        if self.variant is None:
            return "info"
        return "success" if self.variant.is_live else "warning"


def experiment_page(request: HttpRequest, modality: str = Modality.TEXT) -> HttpResponse:
    """Compare a modality's versions by answers and reviews; `?days=` chooses the period."""
    if modality not in Modality.values:
        raise Http404
    if not request.user.has_perm("classifier.view_variant"):
        raise PermissionDenied
    variants = _load_variants(modality)
    now = timezone.now()
    # One `now` for all parts of the page, so that live counts, chart and notices cover the same period.
    since, days = _choose_period(request.GET.get("days", ""), variants, now)
    periods = read_version_periods(modality, since, now)
    live_variants = [variant for variant in variants if variant.is_live]
    shadow_variants = [variant for variant in variants if not variant.is_live]
    live = _make_columns(sum_by_version(periods, is_shadow=False), live_variants)
    shadows = _make_columns(sum_by_version(periods, is_shadow=True), shadow_variants)
    context = {
        **admin.site.each_context(request),
        "title": _("Experiments: %(modality)s") % {"modality": Modality(modality).label.lower()},
        "modality": modality,
        "modalities": Modality.choices,
        "periods": PERIODS.items(),
        "days": days,
        "since": since,
        "uncounted": find_uncounted_period(since, now),
        "waiting_hours": count_stale_hours(since),
        "variants": variants,
        "live": live,
        "live_rows": _make_rows(live, LIVE_MEASURES),
        "comparisons": _compare_with_first(live),
        "shadows": shadows,
        "shadow_rows": _make_rows(shadows, SHADOW_MEASURES),
        "chart": _draw_chart(periods, since, now, live),
        "least": MINIMUM_ROWS,
        "may_deploy": request.user.has_perm(DEPLOY),
        "is_test": len(live_variants) > 1,
        "previous": deployments.previous_version(modality),
        "changes": _latest_deployments(modality),
        "titles": {"live": _("Live versions"), "shadows": _("Shadows"), "changes": _("Latest deployments")},
    }
    return TemplateResponse(request, "admin/feedback/experiment.html", context)


def _load_variants(modality: str) -> list[Variant]:
    """Return the versions in use: live ones before shadows, the oldest first."""
    rows = Variant.objects.filter(version__modality=modality).select_related("version").defer("version__metrics")
    return list(rows.order_by("role", "deployed_at", "pk"))


def _latest_deployments(modality: str) -> QuerySet[Deployment]:
    rows = Deployment.objects.filter(modality=modality).select_related("version", "deployed_by")
    return rows[:LATEST_DEPLOYMENTS]


def _choose_period(days: str, variants: Sequence[Variant], now: datetime) -> tuple[datetime, int]:
    """Return when the period begins and its days; 0 days stand for the time since the newest live version.

    A period of days begins with a whole hour, because stored hours are read rather than counted. Nothing older than
    `TRIAL_DAYS` is kept.
    """
    live = [variant for variant in variants if variant.is_live]
    hour = now.replace(minute=0, second=0, microsecond=0)
    oldest = hour - timedelta(days=settings.TRIAL_DAYS)
    # The length is checked first: int() refuses very long numbers.
    if days.isdecimal() and len(days) < 4 and int(days) in PERIODS:
        chosen = int(days)
    elif len(live) > 1:
        return max(oldest, *(variant.deployed_at for variant in live)), 0
    else:
        chosen = DEFAULT_DAYS
    return max(oldest, hour - timedelta(days=chosen)), chosen


def _make_columns(totals: dict[int, VersionCounts], variants: Sequence[Variant]) -> list[Column]:
    """Return a column for each variant, then for each version that answered in the period and was stopped since."""
    columns = []
    for variant in variants:
        columns.append(Column(variant.version, variant, totals.get(variant.version_id, VersionCounts())))
    # A stopped version has no variant any more, but its answers are part of the period.
    in_use = {variant.version_id for variant in variants}
    stopped = ModelVersion.objects.filter(pk__in=totals.keys() - in_use).defer("metrics").order_by("-pk")
    for version in stopped:
        columns.append(Column(version, None, totals[version.pk]))
    return columns


def _make_rows(columns: Sequence[Column], measures: Measures) -> list[dict[str, Any]]:
    """Return the table's rows: what live versions and shadows share, and between that the measures of one kind."""
    counts = [column.counts for column in columns]
    rows: list[dict[str, Any]] = [
        {"name": _("Predictions"), "cells": [{"value": format_count(each.answered)} for each in counts]}
    ]
    for name, measure in (*measures, (_("Correct by itself, of reviewed answers"), lambda each: each.accuracy)):
        rows.append({"name": name, "cells": [_format_proportion(measure(each)) for each in counts]})
    for name, share in ((_("Time, median"), 0.5), (_("Time, 95th percentile"), 0.95)):
        rows.append({"name": name, "cells": [_format_time(each.times.percentile(share)) for each in counts]})
    rows.append({"name": _("Failed"), "cells": [_format_proportion(each.error_rate, digits=2) for each in counts]})
    return rows


def _compare_with_first(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return, for each other live version, how probable it is that it is better than the one deployed first."""
    if not columns:
        return []
    baseline, rows = columns[0], []
    for other in columns[1:]:
        by_choice = other.counts.first_choice_share.probability_greater_than(baseline.counts.first_choice_share)
        by_accuracy = other.counts.accuracy.probability_greater_than(baseline.counts.accuracy)
        for name, probability in (
            (_("sellers choose its first suggestion more often"), by_choice),
            (_("it is correct more often by itself"), by_accuracy),
        ):
            rows.append(
                {
                    "version": other.version,
                    "baseline": baseline.version,
                    "name": name,
                    "probability": _format_probability(probability),
                }
            )
    return rows


def _draw_chart(periods: Sequence[VersionPeriod], since: datetime, now: datetime, columns: Sequence[Column]) -> str:
    names = {column.version.pk: column.version.name for column in columns}
    in_days = now - since > timedelta(days=2)
    unit = timedelta(days=1) if in_days else timedelta(hours=1)
    series = []
    for pk, curve in first_choice_over_time(periods, since, now).items():
        points = []
        for at, share in curve:
            if share.total >= MINIMUM_ROWS_OF_POINT:
                points.append(((at - now) / unit, round(100 * share.value, 1)))
        series.append({"name": names.get(pk, str(pk)), "points": points})
    return charts.line(
        title=_("Seller chose the first suggestion, over time"),
        x_label=_("days; 0 is now") if in_days else _("hours; 0 is now"),
        y_label=_("%% of answers; points of at least %(least)d answers") % {"least": MINIMUM_ROWS_OF_POINT},
        series=series,
    )


def _format_proportion(proportion: Proportion, digits: int = 1) -> dict[str, str]:
    if not proportion.is_enough:
        return {
            "note": _("not enough data: %(total)d of %(least)d") % {"total": proportion.total, "least": MINIMUM_ROWS}
        }
    low, high = proportion.interval()
    return {
        "value": format_percent(proportion.value, digits),
        "note": format_interval(low, high, proportion.total, digits),
    }


def _format_time(milliseconds: float | None) -> dict[str, str]:
    if milliseconds is None:
        return {"note": MISSING}
    return {"value": format_duration(milliseconds)}


def _format_probability(probability: float | None) -> str:
    if probability is None:
        return ""
    if probability > 0.99:
        return _("over 99%")
    if probability < 0.01:
        return _("under 1%")
    return format_percent(probability)
