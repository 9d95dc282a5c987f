from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from classifier.admin import SellersAdmin, bars, photo_tag
from feedback.models import Feedback


@admin.register(Feedback)
class FeedbackAdmin(SellersAdmin):
    list_display = ["picture", "title", "guess", "verdict", "category", "wish", "seller", "answered_at"]
    list_display_links = ["picture", "title"]
    list_filter = ["verdict", "category", "rank", "answered_at"]
    search_help_text = _("A prediction's whole id or a seller's whole e-mail address")
    search_id = "prediction"
    list_select_related = ["prediction", "category", "seller"]
    readonly_fields = ["large_picture", "five_bars"]
    fields = [
        "prediction", "large_picture", "title", "five_bars", "verdict", "category", "rank", "wish", "seller",
        "answered_at", "earlier", "archived_at",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Feedback]:
        rows: QuerySet[Feedback] = super().get_queryset(request)
        return rows.defer("prediction__text_embedding", "prediction__image_embedding")

    @admin.display(description=_("photo"))
    def picture(self, feedback: Feedback) -> Any:
        return photo_tag(feedback.prediction, "small")

    @admin.display(description=_("photo"))
    def large_picture(self, feedback: Feedback) -> Any:
        return photo_tag(feedback.prediction, "large")

    @admin.display(description=_("product"))
    def title(self, feedback: Feedback) -> str:
        return feedback.prediction.title[:80] or str(feedback.prediction_id)

    @admin.display(description=_("likeliest"))
    def guess(self, feedback: Feedback) -> str:
        best = feedback.prediction.best
        return f"{best['category']} ({best['probability']:.0%})" if best else "–"

    @admin.display(description=_("five likeliest"))
    def five_bars(self, feedback: Feedback) -> SafeString:
        return bars(feedback.prediction.top5)
