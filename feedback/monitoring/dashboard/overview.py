"""Show on the admin's start page whether the models are healthy, what changed, and what is waiting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from classifier.admin.confirmation import DEPLOY
from classifier.models import Deployment, ModelVersion
from common.formatting import format_count, format_duration, format_percent
from feedback.models import Case, Feedback
from feedback.monitoring import queries
from feedback.monitoring.dashboard.figures import Figure, duration_figure, share_figure
from feedback.monitoring.queries import PeriodFigures, Scope
from feedback.notifications import VIEW_REPORTS
from feedback.statistics.intervals import Estimate, estimate_proportion

DAYS = 7  # compared with as many days before
MAX_COUNTED = 1_000
MAX_CHANGES = 6
SPARKLINE_WIDTH, SPARKLINE_HEIGHT = 120, 28

Measure = Callable[[PeriodFigures], Estimate | None]


@dataclass(frozen=True, slots=True)
class OverviewFigure:
    """A figure of the last seven days, its value in the seven days before, and the points of its sparkline."""

    figure: Figure
    before: str
    line: str


@dataclass(frozen=True, slots=True)
class Change:
    """A breach of a threshold, or a change of what is live."""

    at: datetime
    words: str
    url: str
    is_breach: bool


@dataclass(frozen=True, slots=True)
class WaitingLink:
    """A link to something that waits for the person."""

    words: str
    url: str


@dataclass(frozen=True, slots=True)
class Overview:
    """What the start page shows to staff who may see the health page."""

    is_empty: bool
    figures: Sequence[OverviewFigure]
    changes: Sequence[Change]
    waiting: Sequence[WaitingLink]


@dataclass(frozen=True, slots=True)
class TwoWeeks:
    """The figures of both weeks, and those of each of their days."""

    now: PeriodFigures
    before: PeriodFigures
    days: Sequence[PeriodFigures]


def add_overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the overview to the start page's context for staff who may see the health page."""
    if request.user.has_perm(VIEW_REPORTS):
        context["overview"] = build_overview(request)
    return context


def build_overview(request: HttpRequest) -> Overview:
    """Build five figures of the last seven days, what changed in them, and what waits for the person."""
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow = midnight + timedelta(days=1)
    turn, start = tomorrow - timedelta(days=DAYS), tomorrow - timedelta(days=2 * DAYS)
    days = queries.load_period_figures(Scope(start, tomorrow))
    weeks = TwoWeeks(
        now=queries.sum_figures([day for day in days if day.start >= turn], turn),
        before=queries.sum_figures([day for day in days if day.start < turn], start),
        days=days,
    )
    figures = [
        _prediction_figure(weeks),
        _waiting_time_figure(weeks),
        _share_figure(_("Failed"), weeks, _failed_share, digits=2),
        _share_figure(_("Accepted: one of the five suggestions"), weeks, _accepted_share),
        _share_figure(_("Accuracy, reviewed"), weeks, lambda period: period.answers.ensemble_accuracy()),
    ]
    return Overview(
        is_empty=not days,
        figures=figures,
        changes=_load_changes(Scope(turn, tomorrow)),
        waiting=_find_waiting(request),
    )


def sparkline_points(values: Sequence[float | None]) -> str:
    """Return the points of a polyline from the lowest value to the highest; nothing for fewer than two values."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return ""
    low = min(value for _place, value in known)
    high = max(value for _place, value in known)
    span, last = high - low or 1.0, len(values) - 1
    points = []
    for place, value in known:
        x = 1 + place / last * (SPARKLINE_WIDTH - 2)
        y = SPARKLINE_HEIGHT - 2 - (value - low) / span * (SPARKLINE_HEIGHT - 4)
        points.append(f"{x:.1f},{y:.1f}")
    return " ".join(points)


def _failed_share(period: PeriodFigures) -> Estimate | None:
    return estimate_proportion(period.volume.failed, period.volume.done + period.volume.failed)


def _accepted_share(period: PeriodFigures) -> Estimate | None:
    return period.answers.counts.proportion("five")


def _prediction_figure(weeks: TwoWeeks) -> OverviewFigure:
    return OverviewFigure(
        figure=Figure(_("Predictions"), format_count(weeks.now.volume.done)),
        before=format_count(weeks.before.volume.done),
        line=sparkline_points([day.volume.done for day in weeks.days]),
    )


def _waiting_time_figure(weeks: TwoWeeks) -> OverviewFigure:
    before = weeks.before.volume.wait.percentile(0.5)
    return OverviewFigure(
        figure=duration_figure(weeks.now.volume.wait.percentile(0.5), _("Time to result, median")),
        before="" if before is None else format_duration(before),
        line=sparkline_points([day.volume.wait.percentile(0.5) for day in weeks.days]),
    )


def _share_figure(name: str, weeks: TwoWeeks, measure: Measure, *, digits: int = 1) -> OverviewFigure:
    before = measure(weeks.before)
    values: list[float | None] = []
    for day in weeks.days:
        estimate = measure(day)
        values.append(estimate.value if estimate and estimate.is_enough else None)
    return OverviewFigure(
        figure=share_figure(measure(weeks.now), name, digits=digits),
        before=format_percent(before.value, digits) if before and before.is_enough else "",
        line=sparkline_points(values),
    )


def _load_changes(scope: Scope) -> list[Change]:
    """Return the latest breaches and deployments, the newest first."""
    changes = []
    for report in queries.recent_breaches(scope, MAX_CHANGES):
        if report.start is not None:
            url = reverse("admin:feedback_monitoringreport_change", args=[report.pk])
            changes.append(Change(report.start, report.summary, url, is_breach=True))
    deployments = Deployment.objects.filter(created_at__gte=scope.since).select_related("version")[:MAX_CHANGES]
    for deployment in deployments:
        words = f"{deployment.get_kind_display()}: {deployment.version}"
        url = reverse("admin:classifier_deployment_changelist")
        changes.append(Change(deployment.created_at, words, url, is_breach=False))
    changes.sort(key=lambda change: change.at, reverse=True)
    return changes[:MAX_CHANGES]


def _find_waiting(request: HttpRequest) -> list[WaitingLink]:
    found = []
    if request.user.has_perm("feedback.view_case"):
        found += _waiting_cases()
    if request.user.has_perm("feedback.review_feedback"):
        answers = Feedback.objects.unreviewed()[:MAX_COUNTED].count()
        words = ngettext("%(count)s answer to review", "%(count)s answers to review", answers)
        found.append(WaitingLink(words % {"count": _count_words(answers)}, reverse("review")))
    if request.user.has_perm(DEPLOY):
        since = timezone.now() - timedelta(days=DAYS)
        held = ModelVersion.objects.held().filter(created_at__gte=since)[:MAX_COUNTED].count()
        if held:
            words = ngettext("%(count)s model version held back", "%(count)s model versions held back", held)
            url = reverse("admin:classifier_modelversion_changelist")
            found.append(WaitingLink(words % {"count": _count_words(held)}, url))
    return found


def _waiting_cases() -> list[WaitingLink]:
    url = reverse("admin:feedback_case_changelist")
    cases = Case.objects.filter(state=Case.State.OPEN)[:MAX_COUNTED].count()
    words = ngettext("%(count)s open fraud case", "%(count)s open fraud cases", cases)
    found = [WaitingLink(words % {"count": _count_words(cases)}, f"{url}?state__exact={Case.State.OPEN.value}")]
    appeals = Case.objects.appealed()[:MAX_COUNTED].count()
    if appeals:
        words = ngettext("%(count)s appeal of a fraud case", "%(count)s appeals of fraud cases", appeals)
        found.append(WaitingLink(words % {"count": _count_words(appeals)}, f"{url}?appeal=waiting"))
    return found


def _count_words(rows: int) -> str:
    # Counting stops at the limit, so that a long queue doesn't slow the start page down.
    return _("%(count)s or more") % {"count": format_count(rows)} if rows == MAX_COUNTED else format_count(rows)
