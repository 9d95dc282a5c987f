"""The admin's first screen: is it healthy, and what changed?"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from classifier.admin.confirmation import DEPLOY
from classifier.models import Deployment, ModelVersion
from feedback.models import Case, Feedback
from feedback.monitoring import queries
from feedback.monitoring.dashboard.formatting import percent, seconds, share
from feedback.monitoring.queries import PeriodFigures, Scope
from feedback.notifications import VIEW_REPORTS
from feedback.statistics.intervals import Estimate, estimate_proportion

DAYS = 7  # that are compared with as many before
MOST_COUNTED = 1_000
MOST_CHANGES = 6
WIDTH, HEIGHT = 120, 28  # of a sparkline

Measure = Callable[[PeriodFigures], Estimate | None]


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add to the first page's context what they should see first who may see the health page."""
    if request.user.has_perm(VIEW_REPORTS):
        context["front"] = front(request)
    return context


def front(request: HttpRequest) -> dict[str, Any]:
    """Return five figures of the last seven days beside the seven before, what changed, and what waits for a person."""
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow = midnight + timedelta(days=1)
    turn, start = tomorrow - timedelta(days=DAYS), tomorrow - timedelta(days=2 * DAYS)
    parts = queries.load_period_figures(Scope(start, tomorrow))
    now = queries.sum_figures([part for part in parts if part.start >= turn], turn)
    before = queries.sum_figures([part for part in parts if part.start < turn], start)
    shares: list[tuple[str, Measure, int]] = [
        (_("Failed"), lambda part: estimate_proportion(part.volume.failed, part.volume.done + part.volume.failed), 2),
        (_("Seller said yes: one of the five"), lambda part: part.answers.counts.share("five"), 1),
        (_("Accuracy, reviewed"), lambda part: part.answers.accuracy(), 1),
    ]
    waits = [(part.volume.wait.percentile(0.5), part.start) for part in (now, before, *parts)]
    median, median_before = waits[0][0], waits[1][0]
    return {
        "is_empty": not parts,
        "figures": [
            {
                "name": _("Predictions"),
                "value": f"{now.volume.done:,}",
                "before": f"{before.volume.done:,}",
                "line": sparkline([part.volume.done for part in parts]),
            },
            {
                "name": _("Time to the answer, median"),
                **({"value": seconds(median)} if median is not None else {"missing": _("not enough data")}),
                "before": seconds(median_before) if median_before is not None else "",
                "line": sparkline([wait for wait, _start in waits[2:]]),
            },
            *(_rate(name, measure, digits, now, before, parts) for name, measure, digits in shares),
        ],
        "changes": _changes(Scope(turn, tomorrow)),
        "waiting": _waiting(request),
    }


def sparkline(values: Sequence[float | None]) -> str:
    """Return the points of a polyline in WIDTH x HEIGHT, from the lowest to the highest; nothing for less than two."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(value for _place, value in known), max(value for _place, value in known)
    span, last = high - low or 1.0, len(values) - 1
    return " ".join(
        f"{1 + place / last * (WIDTH - 2):.1f},{HEIGHT - 2 - (value - low) / span * (HEIGHT - 4):.1f}"
        for place, value in known
    )


def _rate(
    name: str, measure: Measure, digits: int, now: PeriodFigures, before: PeriodFigures, parts: Sequence[PeriodFigures]
) -> dict[str, Any]:
    earlier = measure(before)
    daily = [measure(part) for part in parts]
    return {
        **share(measure(now), name, digits),
        "before": percent(earlier.value, digits) if earlier and earlier.is_enough else "",
        "line": sparkline([each.value if each and each.is_enough else None for each in daily]),
    }


def _changes(scope: Scope) -> list[dict[str, Any]]:
    """Return the latest breaches and changes of what serves, the newest first."""
    breaches: list[dict[str, Any]] = [
        {
            "at": report.start,
            "words": report.summary,
            "url": reverse("admin:feedback_monitoringreport_change", args=[report.pk]),
            "is_breach": True,
        }
        for report in queries.recent_breaches(scope, MOST_CHANGES)
    ]
    deployments = Deployment.objects.filter(created_at__gte=scope.since).select_related("version")[:MOST_CHANGES]
    changes: list[dict[str, Any]] = [
        {
            "at": each.created_at,
            "words": f"{each.get_kind_display()}: {each.version}",
            "url": reverse("admin:classifier_deployment_changelist"),
            "is_breach": False,
        }
        for each in deployments
    ]
    return sorted([*breaches, *changes], key=lambda each: each["at"], reverse=True)[:MOST_CHANGES]


def _waiting(request: HttpRequest) -> list[dict[str, str]]:
    """Return what waits for this person."""
    found = []
    if request.user.has_perm("feedback.view_case"):
        cases = Case.objects.filter(state=Case.State.OPEN)[:MOST_COUNTED].count()
        words = ngettext("%(count)s open fraud case", "%(count)s open fraud cases", cases) % {"count": _count(cases)}
        url = reverse("admin:feedback_case_changelist")
        found.append({"words": words, "url": f"{url}?state__exact={Case.State.OPEN.value}"})
        if appeals := Case.objects.appealed()[:MOST_COUNTED].count():
            words = ngettext("%(count)s seller's answer to a case", "%(count)s sellers' answers to cases", appeals)
            found.append({"words": words % {"count": _count(appeals)}, "url": f"{url}?appeal=waiting"})
    if request.user.has_perm("feedback.review_feedback"):
        answers = Feedback.objects.unreviewed()[:MOST_COUNTED].count()
        words = ngettext("%(count)s answer to review", "%(count)s answers to review", answers)
        found.append({"words": words % {"count": _count(answers)}, "url": reverse("review")})
    if request.user.has_perm(DEPLOY):
        since = timezone.now() - timedelta(days=DAYS)
        held = ModelVersion.objects.held().filter(created_at__gte=since)[:MOST_COUNTED].count()
        if held:
            words = ngettext("%(count)s model version held back", "%(count)s model versions held back", held)
            url = reverse("admin:classifier_modelversion_changelist")
            found.append({"words": words % {"count": _count(held)}, "url": url})
    return found


def _count(rows: int) -> str:
    return _("%(count)s or more") % {"count": f"{rows:,}"} if rows == MOST_COUNTED else f"{rows:,}"
