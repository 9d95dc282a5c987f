"""The staff's page on which versions at work are compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
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
WITHOUT_TEST = 7
LEAST_AT_A_POINT = 20
LATEST = 6
Measures = Sequence[tuple[str | Promise, Callable[[VersionCounts], Proportion]]]
LIVE: Measures = (
    (_later("Seller chose the first"), lambda tally: tally.chose_first),
    (_later("Seller chose one of the five"), lambda tally: tally.chose_five),
)
SHADOW: Measures = ((_later("Agrees with the live model"), lambda tally: tally.agrees),)


@dataclass(frozen=True)
class Column:
    """One version on the page."""

    version: ModelVersion
    variant: Variant | None
    tally: VersionCounts

    @property
    def state(self) -> str:
        if self.variant is None:
            return _("Stopped")
        return _("Live, %(weight)d %%") % {"weight": self.variant.weight} if self.variant.is_live else _("Shadow")

    @property
    def colour(self) -> str:
        if self.variant is None:
            return "info"
        return "success" if self.variant.is_live else "warning"


def experiment_page(request: HttpRequest, modality: str = Modality.TEXT) -> HttpResponse:
    """A modality's versions side by side, by what sellers and reviewers said; ?days= chooses the period."""
    if modality not in Modality.values:
        raise Http404
    if not request.user.has_perm("classifier.view_variant"):
        raise PermissionDenied
    variants = _variants(modality)
    now = timezone.now()
    since, days = _since(request.GET.get("days", ""), variants, now)
    work = read_version_periods(modality, since, now)
    live = _columns(sum_by_version(work, is_shadow=False), [variant for variant in variants if variant.is_live])
    shadows = _columns(sum_by_version(work, is_shadow=True), [variant for variant in variants if not variant.is_live])
    baseline = live[0] if live else None
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
        "live_rows": _rows(live, LIVE),
        "chances": _chances(baseline, live[1:]) if baseline else [],
        "shadows": shadows,
        "shadow_rows": _rows(shadows, SHADOW),
        "chart": _chart(work, since, now, live),
        "least": MINIMUM_ROWS,
        "may_deploy": request.user.has_perm(DEPLOY),
        "is_test": sum(variant.is_live for variant in variants) > 1,
        "previous": deployments.previous_version(modality),
        "changes": Deployment.objects.filter(modality=modality).select_related("version", "deployed_by")[:LATEST],
        "titles": {"live": _("Live versions"), "shadows": _("Shadows"), "changes": _("Latest changes")},
    }
    return TemplateResponse(request, "admin/feedback/experiment.html", context)


def _variants(modality: str) -> list[Variant]:
    """Return what is at work: live before shadows, the oldest first."""
    rows = Variant.objects.filter(version__modality=modality).select_related("version").defer("version__metrics")
    return list(rows.order_by("role", "deployed_at", "pk"))


def _since(days: str, variants: Sequence[Variant], now: datetime) -> tuple[datetime, int]:
    """Return when the period begins, and its days: 0 for the time since the newest live version is there.

    Days begin with a whole hour, as those are read and not counted. Nothing is kept from before TRIAL_DAYS.
    """
    live = [variant for variant in variants if variant.is_live]
    hour = now.replace(minute=0, second=0, microsecond=0)
    kept = hour - timedelta(days=settings.TRIAL_DAYS)
    if days.isdecimal() and len(days) < 4 and int(days) in PERIODS:
        chosen = int(days)
    elif len(live) > 1:
        return max(kept, *(variant.deployed_at for variant in live)), 0
    else:
        chosen = WITHOUT_TEST
    return max(kept, hour - timedelta(days=chosen)), chosen


def _columns(tallies: dict[int, VersionCounts], variants: Sequence[Variant]) -> list[Column]:
    """Return the variants first, then versions that answered in the period and were stopped since."""
    own = [Column(variant.version, variant, tallies.pop(variant.version_id, VersionCounts())) for variant in variants]
    left = ModelVersion.objects.filter(pk__in=tallies).defer("metrics").order_by("-pk")
    return own + [Column(version, None, tallies[version.pk]) for version in left]


def _rows(columns: Sequence[Column], own: Measures) -> list[dict[str, Any]]:
    """Return the table's rows: what both kinds of versions have, and in between what only theirs has."""
    tallies = [column.tally for column in columns]
    measures = [*own, (_("Right by itself, on reviewed answers"), lambda tally: tally.was_right)]
    return [
        {"name": _("Predictions"), "cells": [_count(tally.answered) for tally in tallies]},
        *({"name": name, "cells": [_share(of(tally)) for tally in tallies]} for name, of in measures),
        *_times(tallies),
        {"name": _("Failed"), "cells": [_share(tally.errors, digits=2) for tally in tallies]},
    ]


def _times(tallies: Sequence[VersionCounts]) -> list[dict[str, Any]]:
    return [
        {"name": _("Time, median"), "cells": [_time(tally.times.percentile(0.5)) for tally in tallies]},
        {"name": _("Time, 95th percentile"), "cells": [_time(tally.times.percentile(0.95)) for tally in tallies]},
    ]


def _chances(baseline: Column, others: Sequence[Column]) -> list[dict[str, Any]]:
    """Return in words how sure it is that each other version is better than the one that was there first."""
    rows = []
    for other in others:
        for name, of in (
            (
                _("sellers choose its first suggestion more often"),
                other.tally.chose_first.probability_greater_than(baseline.tally.chose_first),
            ),
            (
                _("it is right more often by itself"),
                other.tally.was_right.probability_greater_than(baseline.tally.was_right),
            ),
        ):
            rows.append({"version": other.version, "baseline": baseline.version, "name": name, "chance": _chance(of)})
    return rows


def _chart(work: Sequence[VersionPeriod], since: datetime, now: datetime, columns: Sequence[Column]) -> str:
    names = {column.version.pk: column.version.name for column in columns}
    in_days = now - since > timedelta(days=2)
    unit = timedelta(days=1) if in_days else timedelta(hours=1)
    series = []
    for pk, points in first_choice_over_time(work, since, now).items():
        drawn = [
            ((at - now) / unit, round(100 * share.value, 1)) for at, share in points if share.total >= LEAST_AT_A_POINT
        ]
        series.append({"name": names.get(pk, str(pk)), "points": drawn})
    return charts.line(
        title=_("Seller chose the first, over time"),
        x_label=_("days; 0 is now") if in_days else _("hours; 0 is now"),
        y_label=_("%% of answers; points of at least %(least)d answers") % {"least": LEAST_AT_A_POINT},
        series=series,
    )


def _count(count: int) -> dict[str, str]:
    return {"value": f"{count:,}"}


def _share(share: Proportion, digits: int = 1) -> dict[str, str]:
    if not share.is_enough:
        return {"note": _("not enough data: %(total)d of %(least)d") % {"total": share.total, "least": MINIMUM_ROWS}}
    low, high = share.interval()
    interval = f"{100 * low:.{digits}f} – {100 * high:.{digits}f} %"
    return {"value": f"{100 * share.value:.{digits}f} %", "note": _("%(interval)s, n\N{NO-BREAK SPACE}%(total)s") % {
        "interval": interval, "total": f"{share.total:,}",
    }}  # fmt: skip


def _time(milliseconds: float | None) -> dict[str, str]:
    if milliseconds is None:
        return {"note": "–"}
    if milliseconds >= 1000:
        return {"value": f"{milliseconds / 1000:.1f} s"}
    return {"value": f"{milliseconds:.{0 if milliseconds >= 10 else 1}f} ms"}


def _chance(chance: float | None) -> str:
    if chance is None:
        return ""
    return _("over 99 %") if chance > 0.99 else _("under 1 %") if chance < 0.01 else f"{100 * chance:.0f} %"
