"""Base classes and helpers of the admin pages of every app."""

import uuid
from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Model, QuerySet, Subquery
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from classifier.models import Category, Prediction


class ReadOnlyAdmin(ModelAdmin):
    """A page of records that staff may view but not change. Lists never count their rows, which may be millions."""

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
    """A page of sellers' rows, which are found by an exact value that has an index."""

    search_fields = ["pk"]  # shows the search box; `get_search_results` does the search
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
            # Without an indexed column nothing is found, instead of a scan over millions of rows.
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


def suggestion_bars(rows: Sequence[dict[str, Any]] | None) -> SafeString:
    """Render suggestions with their probabilities as labelled bars."""
    return SafeString(render_to_string("admin/bars.html", {"rows": rows or []}))


def top_suggestions(probabilities: dict[str, float] | None, count: int = 5) -> list[dict[str, Any]]:
    """Return the likeliest categories of stored probabilities by slug, in the form of `Prediction.top5`."""
    names = dict(Category.objects.values_list("slug", "name"))
    ranked = sorted((probabilities or {}).items(), key=lambda item: -item[1])[:count]
    return [{"category": names.get(slug, slug), "slug": slug, "probability": p} for slug, p in ranked]
