"""Show predictions with their suggestions, both models' outputs and their archived files."""

from typing import Any

from django.contrib import admin
from django.core.files.storage import default_storage, storages
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from classifier.admin.base import SellersAdmin, photo_tag, suggestion_bars, top_suggestions
from classifier.archive import writer
from classifier.models import VECTORS, Prediction
from common.formatting import format_probability

ARCHIVED = {
    "input.json": "application/json",
    "image.jpg": "image/jpeg",
    "text.json": "application/json",
    "image.json": "application/json",
    "ensemble.json": "application/json",
    "vectors.json": "application/json",
    "feedback.json": "application/json",
}
STATE_COLOURS = {"queued": "info", "running": "info", "done": "success", "failed": "danger"}


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
    list_filter = ["state", "unusual", "priority", "text_version", "image_version", "created_at"]
    list_select_related = ["seller"]
    fieldsets = [
        (None, {"fields": ["id", "large_picture", "title", "description", "seller"]}),
        (_("Suggestions"), {"fields": ["state", "five_bars", "combination", "unusual", "error"]}),
        (_("Text model alone"), {"fields": ["text_version", "text_engine", "text_bars"], "classes": ["tab"]}),
        (_("Image model alone"), {"fields": ["image_version", "image_engine", "image_bars"], "classes": ["tab"]}),
        (
            _("Processing"),
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
    readonly_fields = [
        "large_picture", "five_bars", "combination", "text_engine", "text_bars", "image_engine", "image_bars", "waited",
        "files",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Prediction]:
        return super().get_queryset(request).defer(*VECTORS)  # type: ignore[no-any-return]

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
        key = writer.archive_path(prediction.pk, name)
        # Only known names: the rest of the URL must not reach other keys of the storage.
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
        return f"{best['category']} ({format_probability(best['probability'])})" if best else "–"

    @display(description=_("state"), label=STATE_COLOURS)
    def state_badge(self, prediction: Prediction) -> tuple[str, str]:
        return prediction.state, prediction.get_state_display()

    @admin.display(description=_("compute (ms)"))
    def milliseconds_each(self, prediction: Prediction) -> str:
        return "–" if prediction.milliseconds is None else f"{prediction.milliseconds:.0f}"

    @admin.display(description=_("from upload to result"))
    def waited(self, prediction: Prediction) -> str:
        if not prediction.finished_at:
            return "–"
        return f"{(prediction.finished_at - prediction.created_at).total_seconds():.2f} s"

    @admin.display(description=_("suggestions"))
    def five_bars(self, prediction: Prediction) -> SafeString:
        return suggestion_bars(prediction.top5)

    @admin.display(description=_("combination"))
    def combination(self, prediction: Prediction) -> str:
        parts = dict(prediction.ensemble or {})
        calibrated = parts.pop("calibrated", True)
        words = [f"{name} {value:.3f}" if isinstance(value, float) else str(value) for name, value in parts.items()]
        return ", ".join(words if calibrated else [*words, str(_("not calibrated"))]) or "–"

    @admin.display(description=_("engine"))
    def text_engine(self, prediction: Prediction) -> str:
        return _describe_pass(prediction, "text")

    @admin.display(description=_("engine"))
    def image_engine(self, prediction: Prediction) -> str:
        return _describe_pass(prediction, "image")

    @admin.display(description=_("suggestions"))
    def text_bars(self, prediction: Prediction) -> SafeString:
        return suggestion_bars(top_suggestions(prediction.text_probabilities))

    @admin.display(description=_("suggestions"))
    def image_bars(self, prediction: Prediction) -> SafeString:
        return suggestion_bars(top_suggestions(prediction.image_probabilities))

    @admin.display(description=_("archive"))
    def files(self, prediction: Prediction) -> Any:
        if not prediction.archived_at:
            return _("not archived yet")
        links = [
            (reverse("admin:classifier_prediction_archived", args=[prediction.pk, name]), name) for name in ARCHIVED
        ]
        return SafeString(render_to_string("admin/links.html", {"links": links}))


def _describe_pass(prediction: Prediction, modality: str) -> str:
    """Return the engine that computed the output, and its time."""
    record = (prediction.passes or {}).get(modality)
    if not record:
        return "–"
    words = {**record, "ms": f"{record['ms']:.1f}"}
    if record["rows"] == 1:
        return _now("%(engine)s, %(ms)s ms") % words
    return _now("%(engine)s, %(ms)s ms a product, %(rows)d at once") % words
