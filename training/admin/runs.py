"""Start, follow and cancel training runs in the admin."""

import json
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.decorators import action, display

from classifier.admin import ReadOnlyAdmin
from classifier.evaluation.version_comparison import comparison_at_gate
from classifier.models import Modality
from classifier.registry import traffic
from common import charts
from training.models import TrainingRun
from training.runs import services
from training.runs.forms import RetrainForm
from training.runs.stage_labels import read_stage, stage_label

STATE_COLOURS = {
    "queued": "info",
    "running": "info",
    "deployed": "success",
    "registered": "success",
    "held": "warning",
    "rejected": "danger",
    "failed": "danger",
    "cancelled": "default",
}


@admin.register(TrainingRun)
class TrainingRunAdmin(ReadOnlyAdmin):
    """Runs: a list with a button to start one, and a page for each that follows its progress."""

    list_display = ["name", "state_badge", "recipe_name", "dataset", "version", "trigger", "took", "created_at"]
    list_display_links = ["name"]
    list_filter = ["modality", "state", "trigger"]
    list_select_related = ["dataset", "version"]
    actions_list = ["start"]
    change_form_outer_before_template = "admin/training/run.html"
    fieldsets = [
        (
            _("Request"),
            {
                "fields": [
                    "modality", "dataset", "parent", "trials", "processes", "deploys", "ends_test", "trigger",
                    "requested_by", "report", "created_at", "started_at", "finished_at", "attempts",
                ],
                "classes": ["tab"],
            },
        ),
        (_("Recipe"), {"fields": ["pretty_recipe"], "classes": ["tab"]}),
    ]  # fmt: skip
    readonly_fields = ["pretty_recipe"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingRun]:
        heavy = ("log", "curve", "dataset__manifest", "dataset__description", "version__metrics")
        return super().get_queryset(request).defer(*heavy)  # type: ignore[no-any-return]

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        own = [
            path("<uuid:pk>/progress/", wrap(self.progress), name="training_trainingrun_progress"),
            path("<uuid:pk>/cancel/", wrap(require_POST(self.cancel)), name="training_trainingrun_cancel"),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def has_start_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("training.start_trainingrun")

    @action(description=_("Retrain"), url_path="start", permissions=["start"], icon="exercise")
    def start(self, request: HttpRequest) -> HttpResponse:
        """Ask what to train, and queue it."""
        form = RetrainForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            started, refused = form.start_runs(requested_by=cast(AbstractBaseUser, request.user))
            for refusal in refused:
                messages.error(request, refusal)
            for run in started:
                messages.success(
                    request, _("The %(modality)s run is queued.") % {"modality": run.get_modality_display()}
                )
            if len(started) == 1 and not refused:
                return redirect("admin:training_trainingrun_change", started[0].pk)
            if started:
                return redirect("admin:training_trainingrun_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": _("Retrain"),
            "form": form,
            "champions": {modality: traffic.live_variants_by_modality()[modality] for modality in Modality},
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/training/start_form.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        run = self.get_object(request, object_id)
        extra = {**(extra_context or {}), **(self._page_context(request, run) if run else {})}
        return super().change_view(request, object_id, form_url, extra)

    def progress(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Show the part of a run's page that changes while the run works."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        run = get_object_or_404(TrainingRun.objects.select_related("dataset", "version", "parent"), pk=pk)
        return TemplateResponse(
            request, "admin/training/progress.html", self._page_context(request, run) | {"is_fragment": True}
        )

    def cancel(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Cancel a run."""
        if not self.has_start_permission(request):
            raise PermissionDenied
        run = get_object_or_404(TrainingRun, pk=pk)
        if services.cancel_training(run):
            messages.success(request, _("The run stops within seconds. The live model is unchanged."))
        else:
            messages.warning(request, _("The run had already ended."))
        return redirect("admin:training_trainingrun_change", pk)

    def _page_context(self, request: HttpRequest, run: TrainingRun) -> dict[str, Any]:
        return {
            "run": run,
            "stage": stage_label(run.stage),
            "comparison": comparison_at_gate(run.version) if run.version else None,
            "colour": STATE_COLOURS[run.state],
            "percent": round(100 * run.stage_share),
            "left": None if run.eta_seconds is None else format_clock(run.eta_seconds),
            "charts": [charts.line(**chart) for chart in loss_curves(run.curve)],
            "may_cancel": run.is_active and self.has_start_permission(request),
            "progress_url": reverse("admin:training_trainingrun_progress", args=[run.pk]),
        }

    @admin.display(description=_("run"), ordering="created_at")
    def name(self, run: TrainingRun) -> str:
        return str(run)

    @display(description=_("state"), label=STATE_COLOURS)
    def state_badge(self, run: TrainingRun) -> tuple[str, str]:
        return run.state, run.get_state_display()

    @admin.display(description=_("recipe"))
    def recipe_name(self, run: TrainingRun) -> str:
        return str(run.recipe.get("name", "–"))

    @admin.display(description=_("recipe"))
    def pretty_recipe(self, run: TrainingRun) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(run.recipe, indent=1))

    @admin.display(description=_("took"))
    def took(self, run: TrainingRun) -> str:
        if not (run.started_at and run.finished_at):
            return "–"
        return format_clock((run.finished_at - run.started_at).total_seconds())


def format_clock(seconds: float) -> str:
    """Return a duration as hours:minutes:seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def loss_curves(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one chart for each stage: its training loss and its validation loss over steps."""
    points_by_stage: dict[str, list[dict[str, Any]]] = {}
    for point in curve:
        points_by_stage.setdefault(read_stage(str(point["stage"])), []).append(point)
    charts_data = []
    for stage, points in points_by_stage.items():
        series = []
        for name, key in ((_("training"), "loss"), (_("validation"), "validation_loss")):
            measured = [(point["step"], point[key]) for point in points if point.get(key) is not None]
            if measured:
                series.append({"name": str(name), "points": measured})
        charts_data.append(
            {
                "title": stage_label(stage),
                "x_label": str(_("step")),
                "y_label": str(_("loss (nats)")),
                "series": series,
            }
        )
    return charts_data
