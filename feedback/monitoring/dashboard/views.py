"""Show staff whether the models are healthy, from summaries and reports alone."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.models import Category
from feedback.monitoring import queries
from feedback.monitoring.dashboard.health_data import load_health_data
from feedback.monitoring.dashboard.names import pair_name
from feedback.monitoring.dashboard.panels.breaches import build_breaches
from feedback.monitoring.dashboard.panels.breakdowns import build_breakdowns
from feedback.monitoring.dashboard.panels.calibration import build_calibration
from feedback.monitoring.dashboard.panels.confusions import build_confusions, cell_example_ids, read_cell
from feedback.monitoring.dashboard.panels.drift import build_drift, drift_example_ids
from feedback.monitoring.dashboard.panels.estimate import build_estimate
from feedback.monitoring.dashboard.panels.examples import load_examples
from feedback.monitoring.dashboard.panels.header import build_header
from feedback.monitoring.dashboard.panels.key_figures import build_key_figures
from feedback.monitoring.dashboard.panels.models import build_models
from feedback.monitoring.dashboard.panels.over_time import build_over_time
from feedback.monitoring.dashboard.scope import ScopeForm
from feedback.notifications import VIEW_REPORTS


def health(request: HttpRequest) -> HttpResponse:
    """Show a period (?days= or ?since=&until=) of one ?pair=, limited by ?category=, ?cohort= or ?language=."""
    if not request.user.has_perm(VIEW_REPORTS):
        raise PermissionDenied
    category_names = dict(Category.objects.order_by("name").values_list("slug", "name"))
    pairs = queries.version_pairs(timezone.now())
    versions = queries.versions_by_id(list(pairs.values()))
    pair_names = {key: pair_name(pair, versions) for key, pair in pairs.items()}
    form = ScopeForm(request.GET, pair_names, category_names)
    form.is_valid()
    data = load_health_data(form.scope(pairs), form.breakdown(), category_names, versions)
    cell = read_cell(request.GET)
    # One query looks up the examples of all panels.
    examples = load_examples([*cell_example_ids(data, cell), *drift_example_ids(data)])
    context = {
        **admin.site.each_context(request),
        "title": _("Health"),
        "header": build_header(request, form, data),
        "key_figures": build_key_figures(data),
        "drift": build_drift(data, examples),
        "over_time": build_over_time(data),
        "estimate": build_estimate(data),
        "models": build_models(data),
        "calibration": build_calibration(data),
        "confusions": build_confusions(request, data, cell, examples),
        "breakdowns": build_breakdowns(request, data),
        "breaches": build_breaches(data),
    }
    return TemplateResponse(request, "admin/feedback/health.html", context)
