"""Edit categories, their aliases and search terms."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline

from classifier.models import Category, CategoryAlias, CategorySearchTerm


class AliasInline(TabularInline):
    model = CategoryAlias
    extra = 0


class SearchTermInline(TabularInline):
    model = CategorySearchTerm
    extra = 0
    per_page = 50  # a starter category has some 300, and a form may have 1,000 fields


@admin.register(Category)
class CategoryAdmin(ModelAdmin):
    list_display = ["name", "slug", "is_active", "alias_names"]
    list_filter = ["is_active"]
    search_fields = ["name", "slug", "aliases__name", "search_terms__term"]
    inlines = [AliasInline, SearchTermInline]
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
