"""The staff's page that answers "is it healthy?". It reads summaries and reports only."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Category
from feedback.models import HealthSummary, Period
from feedback.monitoring import queries
from feedback.monitoring.dashboard.formatting import address, narrowed, pair_name
from feedback.monitoring.dashboard.panels import charts, drift, tables
from feedback.monitoring.dashboard.scope import PERIODS, ScopeForm, lasts
from feedback.notifications import VIEW_REPORTS
from feedback.statistics.counters import BREAKDOWNS, estimate_from_histogram
from feedback.statistics.intervals import MINIMUM_ROWS

BREACHES = 8


def health(request: HttpRequest) -> HttpResponse:
    """How the models do: ?days= or ?since=&until=, of one ?pair=, narrowed by ?category=, ?cohort= or ?language=."""
    if not request.user.has_perm(VIEW_REPORTS):
        raise PermissionDenied
    names = dict(Category.objects.order_by("name").values_list("slug", "name"))
    pairs = queries.version_pairs(timezone.now())
    versions = queries.versions_by_id(list(pairs.values()))
    form = ScopeForm(request.GET, {key: pair_name(pair, versions) for key, pair in pairs.items()}, names)
    form.is_valid()
    scope, only = form.scope(pairs), form.only()
    parts = queries.load_period_figures(scope)
    whole = queries.sum_figures(parts, scope.since)
    known = queries.calibrator_before(scope)
    estimated = estimate_from_histogram(whole.volume.confidence, known) if known else None
    reports = queries.latest_drift_reports(scope)
    true, given = (request.GET.get(name, "") for name in ("true", "given"))
    examples = drift.cell_examples(whole.answers, true, given)
    findings = [drift.finding_block(report) for report in reports]
    products = drift.products([*examples, *(id for block in findings for row in block["rows"] for id in row["ids"])])
    context = {
        **admin.site.each_context(request),
        "title": _("Health"),
        "form": form,
        "periods": [
            {"name": name, "url": address(request, days=days, since=None, until=None), "is_chosen": lasts(scope, days)}
            for days, name in PERIODS.items()
        ],
        "scope": scope,
        "is_hourly": scope.period == Period.HOUR,
        "narrowed": narrowed(only, names),
        "is_of_category": only is not None and only.by == "category",
        "all_url": address(request, **dict.fromkeys(BREAKDOWNS), true=None, given=None),
        "has_summaries": bool(parts) or HealthSummary.objects.exists(),
        "last": parts[-1].start if parts else None,
        "key": tables.key_figures(whole, scope, only, estimated, reports),
        "charts": charts.over_time(parts, scope, only, known),
        "models": tables.models(whole.answers, scope.pair, versions),
        "reliability": charts.reliability(whole.answers),
        "error": charts.error(whole.answers),
        "heatmap": charts.heatmap(whole.answers, only.key if only and only.by == "category" else "", names, request),
        "drawn": int(whole.answers.weighted[0]),
        "least": MINIMUM_ROWS,
        "cell": {"true": names.get(true, true), "given": names.get(given, given)} if true and given else None,
        "examples": drift.known(examples, products),
        "estimated": estimated,
        "is_strange": tables.is_strange(whole.volume),
        "blocks": [drift.with_examples(block, products) for block in findings],
        "origins": drift.origins(scope, versions),
        "breaches": queries.recent_breaches(scope, BREACHES),
        "tables": tables.tables(whole, names, request),
        "titles": {
            "models": _("Each model"),
            "calibration": _("Calibration on reviewed products"),
            "confusion": _("Confusions on reviewed products"),
            "drift": _("Drift"),
            "breaches": _("Breaches"),
            "estimate": _("Accuracy, estimated and reviewed"),
        },
    }  # fmt: skip
    return TemplateResponse(request, "admin/feedback/health.html", context)
