"""Show ensemble rules and the metrics by which they were chosen."""

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from classifier.admin.base import ReadOnlyAdmin
from classifier.evaluation import quality_reports
from classifier.models import EnsembleRule

PAIR = ["text_version", "image_version"]
KEYS = ("n", "accuracy", "top5", "macro_f1", "log_loss", "ece")


@admin.register(EnsembleRule)
class EnsembleRuleAdmin(ReadOnlyAdmin):
    list_display = ["pair", "kind", "log_loss", "origin", "created_at"]
    list_display_links = ["pair"]
    list_select_related = PAIR
    fields = [*PAIR, "kind", "origin", "pretty_parameters", "created_at"]
    readonly_fields = ["origin", "pretty_parameters"]
    change_form_outer_before_template = "admin/classifier/rule.html"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        rule = self.get_object(request, object_id)
        extra = {**(extra_context or {}), "tables": metric_tables(rule) if rule else []}
        return super().change_view(request, object_id, form_url, extra)

    @admin.display(description=_("pair"))
    def pair(self, rule: EnsembleRule) -> str:
        return str(rule)

    @admin.display(description=_("log-loss on validation"))
    def log_loss(self, rule: EnsembleRule) -> str:
        loss = rule.metrics.get("validation", {}).get(rule.kind, {}).get("log_loss")
        return "–" if loss is None else f"{loss:.3f}"

    @admin.display(description=_("fitted"))
    def origin(self, rule: EnsembleRule) -> str:
        if not rule.carried_over_from:
            return _now("For this pair")
        words = {"pair": rule.carried_over_from}
        return _now("Carried over from %(pair)s: too few products with text and photo to fit one") % words

    @admin.display(description=_("parameters"))
    def pretty_parameters(self, rule: EnsembleRule) -> SafeString:
        return format_html('<pre class="aisle-pre">{}</pre>', json.dumps(rule.parameters, indent=1))


def metric_tables(rule: EnsembleRule) -> list[dict[str, Any]]:
    """Return the metrics of a rule and of its alternatives: one table for each split."""
    names = {"text": _now("Text alone"), "image": _now("Image alone"), **dict(EnsembleRule.Kind.choices)}
    titles = {
        "validation": _now("Validation products, cross-validated: the lower log-loss was chosen"),
        "test": _now("Test products"),
    }
    splits = {key: rule.metrics[key] for key in titles if rule.metrics.get(key)} or {"test": rule.metrics}
    figures = {figure.key: figure for figure in quality_reports.FIGURES}
    return [
        {
            "title": titles[split],
            "heads": ["n", *(figures[key].name for key in KEYS[1:])],
            "rows": _metric_rows(rule, rows, names),
        }
        for split, rows in splits.items()
    ]


def _metric_rows(rule: EnsembleRule, rows: dict[str, Any], names: dict[str, Any]) -> list[dict[str, Any]]:
    figures = {figure.key: figure for figure in quality_reports.FIGURES}
    found = []
    for name, metrics in rows.items():
        if not isinstance(metrics, dict):
            continue
        cells = [figures[key].format_value(figures[key].value_in(metrics)) for key in KEYS]
        found.append({"name": names.get(name, name), "chosen": name == rule.kind, "cells": cells})
    return found
