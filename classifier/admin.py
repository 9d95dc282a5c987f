import json
import uuid
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.files.storage import default_storage, storages
from django.db.models import Model, QuerySet, Subquery
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from classifier import archive
from classifier.models import Category, CategoryAlias, EnsembleRule, ModelVersion, Prediction, Variant

ARCHIVED = {
    "input.json": "application/json",
    "image.jpg": "image/jpeg",
    "text.json": "application/json",
    "image.json": "application/json",
    "ensemble.json": "application/json",
    "feedback.json": "application/json",
}
STATE_COLOURS = {"queued": "info", "running": "info", "done": "success", "failed": "danger"}


class ReadOnlyAdmin(ModelAdmin):
    """History: staff may look at it, nobody may change it. Lists never count their rows."""

    show_full_result_count = False
    paginator = InfinitePaginator
    list_per_page = 50
    date_hierarchy = None

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class SellersAdmin(ReadOnlyAdmin):
    """Rows of sellers, too many to look through: they are found by an exact value that has an index."""

    search_fields = ["pk"]  # makes the search box; what it finds is said below
    search_help_text = _("A whole id or a seller's whole e-mail address")
    search_id = "pk"
    search_word = ""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if "@" in term:
            # One seller, looked up first: the planner then takes the seller's own index.
            seller = get_user_model()._default_manager.filter(email=term.lower()).values("pk")[:1]
            return queryset.filter(seller=Subquery(seller)), False
        try:
            return queryset.filter(**{self.search_id: uuid.UUID(term)}), False
        except ValueError:
            return queryset.filter(**{self.search_word: term}) if self.search_word else queryset.none(), False


def photo_tag(prediction: Prediction, size: str) -> SafeString | str:
    """Return a prediction's photo as an <img>, or a dash."""
    if not prediction.photo_small:
        return "–"
    return format_html(
        '<img src="{}" alt="" loading="lazy" class="aisle-photo aisle-photo-{}">',
        reverse("admin:classifier_prediction_photo", args=[prediction.pk, size]),
        size,
    )


def bars(rows: Sequence[dict[str, Any]] | None) -> SafeString:
    """Return suggestions with probabilities as labelled bars."""
    return SafeString(render_to_string("admin/bars.html", {"rows": rows or []}))


def likeliest(probabilities: dict[str, float] | None, count: int = 5) -> list[dict[str, Any]]:
    names = dict(Category.objects.values_list("slug", "name"))
    ranked = sorted((probabilities or {}).items(), key=lambda item: -item[1])[:count]
    return [{"category": names.get(slug, slug), "slug": slug, "probability": p} for slug, p in ranked]


class AliasInline(TabularInline):
    model = CategoryAlias
    extra = 0


@admin.register(Category)
class CategoryAdmin(ModelAdmin):
    list_display = ["name", "slug", "is_active", "alias_names"]
    list_filter = ["is_active"]
    search_fields = ["name", "slug", "aliases__name"]
    inlines = [AliasInline]
    fields = ["name", "slug", "is_active"]
    prepopulated_fields = {"slug": ["name"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Category]:
        return super().get_queryset(request).prefetch_related("aliases")  # type: ignore[no-any-return]

    def get_readonly_fields(self, request: HttpRequest, obj: Category | None = None) -> list[str]:
        return ["slug"] if obj else []

    def get_prepopulated_fields(self, request: HttpRequest, obj: Category | None = None) -> dict[str, Any]:
        return {} if obj else {"slug": ["name"]}

    def has_delete_permission(self, request: HttpRequest, obj: Category | None = None) -> bool:
        return False

    @admin.display(description=_("aliases"))
    def alias_names(self, category: Category) -> str:
        return ", ".join(alias.name for alias in category.aliases.all()) or "–"


@admin.register(Prediction)
class PredictionAdmin(SellersAdmin):
    list_display = [
        "picture",
        "title_or_id",
        "best_guess",
        "state_badge",
        "seller",
        "milliseconds_each",
        "created_at",
    ]
    list_display_links = ["picture", "title_or_id"]
    list_filter = ["state", "priority", "text_version", "image_version", "created_at"]
    list_select_related = ["seller"]
    fieldsets = [
        (None, {"fields": ["id", "large_picture", "title", "description", "seller"]}),
        (_("Answer"), {"fields": ["state", "five_bars", "combination", "error"]}),
        (_("Text model alone"), {"fields": ["text_version", "text_bars"], "classes": ["tab"]}),
        (_("Image model alone"), {"fields": ["image_version", "image_bars"], "classes": ["tab"]}),
        (
            _("Work"),
            {
                "fields": [
                    "priority",
                    "attempts",
                    "milliseconds_each",
                    "waited",
                    "created_at",
                    "finished_at",
                    "files",
                ],
                "classes": ["tab"],
            },
        ),
    ]
    readonly_fields = ["large_picture", "five_bars", "combination", "text_bars", "image_bars", "waited", "files"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Prediction]:
        return super().get_queryset(request).defer("text_embedding", "image_embedding")  # type: ignore[no-any-return]

    def get_urls(self) -> list[Any]:
        own = [
            path(
                "<uuid:pk>/photo/<str:size>/",
                self.admin_site.admin_view(self.photo),
                name="classifier_prediction_photo",
            ),
            path(
                "<uuid:pk>/archive/<str:name>",
                self.admin_site.admin_view(self.archived),
                name="classifier_prediction_archived",
            ),
        ]
        return own + super().get_urls()  # type: ignore[no-any-return]

    def photo(self, request: HttpRequest, pk: Any, size: str) -> HttpResponse | FileResponse:
        prediction = self._visible(request, pk)
        name = prediction.photo_large if size == "large" else prediction.photo_small
        if not name or not default_storage.exists(name):
            raise Http404
        headers = {"Cache-Control": "private, max-age=3600"}
        return FileResponse(default_storage.open(name), content_type="image/jpeg", headers=headers)

    def archived(self, request: HttpRequest, pk: Any, name: str) -> FileResponse:
        prediction, storage = self._visible(request, pk), storages["archive"]
        key = archive.path(prediction.pk, name)
        if name not in ARCHIVED or not storage.exists(key):
            raise Http404
        return FileResponse(storage.open(key), content_type=ARCHIVED[name])

    def _visible(self, request: HttpRequest, pk: Any) -> Prediction:
        if not self.has_view_permission(request):
            raise Http404
        return get_object_or_404(Prediction, pk=pk)

    @admin.display(description=_("photo"))
    def picture(self, prediction: Prediction) -> Any:
        return photo_tag(prediction, "small")

    @admin.display(description=_("photo"))
    def large_picture(self, prediction: Prediction) -> Any:
        return photo_tag(prediction, "large")

    @admin.display(description=_("product"))
    def title_or_id(self, prediction: Prediction) -> str:
        return prediction.title[:80] or str(prediction.pk)

    @admin.display(description=_("likeliest"))
    def best_guess(self, prediction: Prediction) -> str:
        best = prediction.best
        return f"{best['category']} ({best['probability']:.0%})" if best else "–"

    @display(description=_("state"), label=STATE_COLOURS)
    def state_badge(self, prediction: Prediction) -> tuple[str, str]:
        return prediction.state, prediction.get_state_display()

    @admin.display(description=_("compute (ms)"))
    def milliseconds_each(self, prediction: Prediction) -> str:
        return "–" if prediction.milliseconds is None else f"{prediction.milliseconds:.0f}"

    @admin.display(description=_("from upload to answer"))
    def waited(self, prediction: Prediction) -> str:
        if not prediction.finished_at:
            return "–"
        return f"{(prediction.finished_at - prediction.created_at).total_seconds():.2f} s"

    @admin.display(description=_("five likeliest"))
    def five_bars(self, prediction: Prediction) -> SafeString:
        return bars(prediction.top5)

    @admin.display(description=_("weights and temperature"))
    def combination(self, prediction: Prediction) -> str:
        return ", ".join(f"{name} {value:.3f}" for name, value in (prediction.ensemble or {}).items()) or "–"

    @admin.display(description=_("five likeliest"))
    def text_bars(self, prediction: Prediction) -> SafeString:
        return bars(likeliest(prediction.text_probabilities))

    @admin.display(description=_("five likeliest"))
    def image_bars(self, prediction: Prediction) -> SafeString:
        return bars(likeliest(prediction.image_probabilities))

    @admin.display(description=_("archive"))
    def files(self, prediction: Prediction) -> Any:
        if not prediction.archived_at:
            return _("not archived yet")
        links = [
            (reverse("admin:classifier_prediction_archived", args=[prediction.pk, name]), name) for name in ARCHIVED
        ]
        return SafeString(render_to_string("admin/links.html", {"links": links}))


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = ["name", "modality", "accuracy_percent", "is_deployed", "created_at"]
    list_filter = ["modality"]
    search_fields = ["name", "=checksum"]
    fields = ["name", "modality", "accuracy_percent", "checksum", "path", "created_at", "pretty_metrics"]
    readonly_fields = ["pretty_metrics", "path"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        return super().get_queryset(request).select_related("variant")  # type: ignore[no-any-return]

    @admin.display(description=_("accuracy"), ordering="accuracy")
    def accuracy_percent(self, version: ModelVersion) -> str:
        return f"{version.accuracy:.1%}"

    @admin.display(description=_("deployed"), boolean=True)
    def is_deployed(self, version: ModelVersion) -> bool:
        return hasattr(version, "variant")

    @admin.display(description=_("metrics"))
    def pretty_metrics(self, version: ModelVersion) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(version.metrics, indent=1))


@admin.register(EnsembleRule)
class EnsembleRuleAdmin(ReadOnlyAdmin):
    list_display = ["text_version", "image_version", "short_temperature", "created_at"]
    list_display_links = ["text_version", "image_version"]
    list_select_related = ["text_version", "image_version"]

    @admin.display(description=_("temperature"), ordering="temperature")
    def short_temperature(self, rule: EnsembleRule) -> str:
        return f"{rule.temperature:.3f}"


@admin.register(Variant)
class VariantAdmin(ReadOnlyAdmin):
    list_display = ["version", "weight", "deployed_at"]
    list_select_related = ["version"]
