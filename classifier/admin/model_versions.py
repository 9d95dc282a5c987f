"""Show, compare, deploy and roll back model versions."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.files.storage import storages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, path, reverse
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from classifier.admin.base import ReadOnlyAdmin
from classifier.admin.confirmation import DEPLOY, confirm_change, describe_version, experiment_url
from classifier.evaluation import quality_reports
from classifier.evaluation.category_coverage import active_categories, coverage_of
from classifier.evaluation.version_comparison import compare_with_live, comparison_at_gate, side_by_side
from classifier.ml import artifact
from classifier.models import Category, EnsembleRule, Modality, ModelVersion, Variant
from classifier.registry import deployments, traffic, versions
from common import charts
from common.formatting import format_percent
from common.object_storage import StorageDown, storage_faults

STATE_COLOURS = {"live": "success", "shadow": "warning", "registered": "info", "held": "warning", "rejected": "danger"}
SOURCES = ("sources", "datasets")  # the metrics with a row for each source of products; the older name second


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_filter = ["modality", "state"]
    search_fields = ["name", "=checksum"]
    fields = ["created_at"]
    change_form_outer_before_template = "admin/classifier/version.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        return super().get_queryset(request).select_related("variant")  # type: ignore[no-any-return]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        active = active_categories()

        @admin.display(description=_("suggests"))
        def suggests(version: ModelVersion) -> str:
            return str(coverage_of(version.labels, active=active))

        figures = ["accuracy_percent", "log_loss", "calibration"]
        return ["name", "modality", "state_badge", suggests, *figures, "created_at"]

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        own = [
            path("compare/", wrap(self.compare), name="classifier_modelversion_compare"),
            path("<int:pk>/deploy/", wrap(self.deploy), name="classifier_modelversion_deploy"),
            path("<slug:modality>/rollback/", wrap(self.roll_back), name="classifier_modelversion_rollback"),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        version = self.get_object(request, object_id)
        extra = {**(extra_context or {}), **(self._report(request, version) if version else {})}
        return super().change_view(request, object_id, form_url, extra)

    def compare(self, request: HttpRequest) -> HttpResponse:
        """Show two versions side by side, chosen by ?first=ID&second=ID."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        first, second = (_chosen(request.GET.get(name)) for name in ("first", "second"))
        comparison, side, problem = None, None, ""
        if first and second:
            try:
                comparison = quality_reports.compare_metrics(first, second, _names())
                side = side_by_side(first, second)
            except ValueError:
                problem = _now("A text model and an image model can't be compared: choose two of the same kind.")
        versions = ModelVersion.objects.defer("metrics", "lineage").order_by("modality", "-created_at")
        context = {
            **self.admin_site.each_context(request),
            "title": _now("Compare two versions"),
            "opts": self.opts,
            "versions": versions,
            "first": first,
            "second": second,
            "comparison": comparison,
            "side": side,
            "same_title": _now("On the same products"),
            "problem": problem,
            "figures_title": _now("Each on its own test products"),
            "classes_title": _now("Categories, each on its own test products"),
            "diagrams": [_reliability(version) for version in (first, second) if version] if comparison else [],
        }
        return TemplateResponse(request, "admin/classifier/compare.html", context)

    def deploy(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Confirm and deploy the version."""
        version = get_object_or_404(ModelVersion, pk=pk)
        question = self._question(traffic.current_champion(version.modality), version)
        question |= {
            "phrase": question["side"].phrase,
            "title": _now("Deploy %(version)s?") % {"version": version},
            "verb": _now("Deploy"),
            "with_note": True,
        }

        def act() -> Variant:
            return deployments.deploy_version(
                version,
                by=request.user,  # type: ignore[arg-type]
                note=request.POST.get("note", ""),
                expected_champion=_expected_champion(request),
                accepts_loss=bool(question["phrase"]),  # it was typed
            )

        return self._confirm(request, version, question, act)

    def roll_back(self, request: HttpRequest, modality: str) -> HttpResponse:
        """Confirm and roll back to the version before."""
        if modality not in Modality.values:
            raise Http404
        before, after = traffic.current_champion(modality), deployments.previous_version(modality)
        if after is None:
            messages.error(request, _now("There is nothing to roll back to: no earlier version was deployed."))
            return redirect("admin:classifier_modelversion_changelist")
        question = self._question(before, after) | {
            "title": _now("Roll back to %(version)s?") % {"version": after},
            "verb": _now("Roll back"),
        }

        def act() -> Variant:
            return deployments.roll_back(
                modality,
                by=request.user,  # type: ignore[arg-type]
                expected_champion=_expected_champion(request),
            )

        return self._confirm(request, before or after, question, act)

    def _question(self, before: ModelVersion | None, after: ModelVersion) -> dict[str, Any]:
        return {
            "facts": [(_now("Live now"), describe_version(before)), (_now("Will be live"), describe_version(after))],
            "side": compare_with_live(after),
            "serving": before.pk if before else "",
            "hint": _now(
                "Its stored files are verified first. If one is damaged, nothing changes. A running experiment ends. "
                "Sellers notice no interruption."
            ),
        }

    def _confirm(
        self, request: HttpRequest, version: ModelVersion, question: dict[str, Any], act: Callable[[], Variant]
    ) -> HttpResponse:
        def deploy() -> tuple[str, str]:
            now = act().version
            words = _now("%(version)s is live. Workers use it from their next batch on.") % {"version": now}
            return words, reverse("admin:classifier_modelversion_change", args=[now.pk])

        back = reverse("admin:classifier_modelversion_change", args=[version.pk])
        return confirm_change(self, request, question, deploy, back=back)

    def _report(self, request: HttpRequest, version: ModelVersion) -> dict[str, Any]:
        names, metrics = _names(), version.metrics
        champion = traffic.current_champion(version.modality)
        previous = deployments.previous_version(version.modality)
        variant = Variant.objects.filter(version=version).first()
        is_live = variant is not None and variant.is_live
        may_deploy = request.user.has_perm(DEPLOY)
        sources: dict[str, Any] = next((metrics[name] for name in SOURCES if metrics.get(name)), {})
        own = EnsembleRule.objects.select_related("text_version", "image_version")
        confusion = metrics.get("confusion")
        return {
            "version": version,
            "badge": {"text": _state_word(version), "type": STATE_COLOURS[_state(version)]},
            "figures": quality_reports.key_figures(version),
            "side": compare_with_live(version),
            "then": comparison_at_gate(version)
            if version.lineage.get("compared_with") != (champion and champion.pk)
            else None,
            "classes": quality_reports.category_figures(version, names),
            "sources": sources,
            "reliability": _reliability(version),
            "heatmap": charts.heatmap(_counts(confusion), names) if confusion else "",
            "rules": own.filter(**{f"{version.modality}_version": version}).defer("metrics"),
            "lineage": lineage_rows(version),
            "card": _card(version),
            "champion": champion if champion != version else None,
            "is_live": is_live,
            "may_deploy": may_deploy and not is_live and version.state != ModelVersion.State.REJECTED,
            "may_shadow": may_deploy and variant is None,
            "experiment_url": experiment_url(version.modality) if variant else "",
            "may_roll_back": may_deploy and is_live and previous is not None,
            "previous": previous,
            "titles": {
                "side": _now("Compared with the live model"),
                "then": _now("When it was trained"),
                "calibration": _now("Calibration"),
                "lineage": _now("Lineage"),
                "confusion": _now("Confusions"),
                "classes": _now("Categories"),
                "sources": _now("Sources of test products"),
                "card": _now("Model card"),
            },
            "test_url": reverse("admin:classifier_variant_test", args=[version.pk]),
            "shadow_url": reverse("admin:classifier_variant_shadow", args=[version.pk]),
            "deploy_url": reverse("admin:classifier_modelversion_deploy", args=[version.pk]),
            "rollback_url": reverse("admin:classifier_modelversion_rollback", args=[version.modality]),
            "compare_url": champion and _compare_url(champion, version),
        }

    @admin.display(description=_("accuracy"), ordering="accuracy")
    def accuracy_percent(self, version: ModelVersion) -> str:
        return format_percent(version.accuracy, 1)

    @admin.display(description=_("log-loss"))
    def log_loss(self, version: ModelVersion) -> str:
        return _figure(version, "log_loss")

    @admin.display(description=_("calibration error"))
    def calibration(self, version: ModelVersion) -> str:
        return _figure(version, "ece")

    @display(description=_("state"), label=STATE_COLOURS)
    def state_badge(self, version: ModelVersion) -> tuple[str, str]:
        return _state(version), _state_word(version)


def lineage_rows(version: ModelVersion) -> list[dict[str, Any]]:
    """Return a version's lineage: rows with a name, a value and, where there is one, a URL."""
    known = dict(version.lineage)
    recipe = known.pop("recipe", None)
    rows: list[dict[str, Any]] = [
        {
            "name": _("Trained on from"),
            "value": version.parent or _("the pretrained encoder"),
            "url": version.parent and reverse("admin:classifier_modelversion_change", args=[version.parent.pk]),
        }
    ]
    links = {"run": "admin:training_trainingrun_change"}
    titles = {
        "run": _("Training run"),
        "dataset": _("Dataset"),
        "code": _("Code version"),
        "compared_with": _("Compared with"),
    }
    number = known.pop("dataset_number", None)
    for key, value in known.items():
        row: dict[str, Any] = {"name": titles.get(key, key), "value": value}
        if key == "dataset" and number:
            row |= {"value": f"{number} ({value[:12]})", "url": _address("admin:training_dataset_change", number)}
        elif key == "compared_with" and value:
            row |= {
                "value": versions.version_name(value),
                "url": _address("admin:classifier_modelversion_change", value),
            }
        elif key in links:
            row["url"] = _address(links[key], value)
        rows.append(row)
    if recipe:
        name = recipe.get("name", "") if isinstance(recipe, dict) else recipe
        rows.append({"name": _("Recipe"), "value": name, "details": recipe if isinstance(recipe, dict) else None})
    if len(rows) == 1:
        rows.append({"name": _("Dataset, recipe and run"), "value": _("not recorded")})
    return [*rows, {"name": _("Checksum"), "value": version.checksum}]


def _compare_url(first: ModelVersion, second: ModelVersion) -> str:
    return f"{reverse('admin:classifier_modelversion_compare')}?{urlencode({'first': first.pk, 'second': second.pk})}"


def _address(name: str, key: Any) -> str:
    """Return the URL of a page of the app `training`; empty where it is not installed."""
    try:
        return reverse(name, args=[key])
    except NoReverseMatch:
        return ""


def _state(version: ModelVersion) -> str:
    if hasattr(version, "variant"):
        return version.variant.role
    return "held" if version.is_held else str(version.state)


def _state_word(version: ModelVersion) -> str:
    if not hasattr(version, "variant"):
        return _now("Held back") if _state(version) == "held" else str(version.get_state_display())
    if not version.variant.is_live:
        return version.variant.get_role_display()
    weight = version.variant.weight
    return _now("Deployed") if weight == 100 else _now("Deployed, %(weight)d%%") % {"weight": weight}


def _figure(version: ModelVersion, key: str) -> str:
    figure = next(figure for figure in quality_reports.FIGURES if figure.key == key)
    value = figure.value_in(version.metrics)
    return "–" if value is None else figure.format_value(value)


def _counts(confusion: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """Return the non-zero counts of a confusion matrix as the metrics hold it: {"labels", "matrix"}."""
    labels = confusion["labels"]
    return {
        (labels[i], labels[j]): count
        for i, row in enumerate(confusion["matrix"])
        for j, count in enumerate(row)
        if count
    }


def _reliability(version: ModelVersion) -> str:
    bins = version.metrics.get("reliability")
    return charts.reliability(bins, version.metrics.get("reliability_before"), str(version)) if bins else ""


def _card(version: ModelVersion) -> str:
    try:
        with storage_faults(), storages["models"].open(f"{version.path}/{artifact.CARD}") as file:
            return str(file.read().decode("utf-8", "replace"))
    except (FileNotFoundError, StorageDown):
        return ""


def _chosen(key: str | None) -> ModelVersion | None:
    return ModelVersion.objects.filter(pk=key).first() if key and key.isdecimal() and len(key) < 10 else None


def _names() -> dict[str, str]:
    return dict(Category.objects.values_list("slug", "name"))


def _expected_champion(request: HttpRequest) -> deployments.ExpectedChampion | None:
    """Return the champion that the confirmation page showed; None where the form does not name one."""
    posted = request.POST.get("serving")
    if posted is None:
        return None
    version = ModelVersion.objects.filter(pk=posted).first() if posted.isdigit() else None
    return deployments.ExpectedChampion(version)
