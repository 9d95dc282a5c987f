"""Format the metrics of versions for pages and the command line."""

from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from classifier.models import ModelVersion
from common.formatting import format_duration, format_number, format_percent, format_points


@dataclass(frozen=True)
class Figure:
    """One figure of a version's metrics: its name, its unit, and whether more is better."""

    key: str
    name: str | Promise
    unit: str = "%"
    more_is_better: bool = True

    def value_in(self, metrics: dict[str, Any]) -> float | None:
        """Return the figure of stored metrics, or None where it was not recorded."""
        value = metrics.get(self.key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def format_value(self, value: float | None) -> str:
        """Return the value with its unit."""
        if value is None:
            return str(_("not recorded"))
        return {
            "%": lambda: format_percent(value, 1),
            "nats": lambda: f"{value:.3f}",
            "ms": lambda: format_duration(value),
            "MB": lambda: f"{value / 1e6:.1f} MB",
            "": lambda: format_number(value, 0),
        }[self.unit]()

    def format_change(self, before: float | None, after: float | None) -> str:
        """Return the signed difference, or a dash where one value is missing."""
        if before is None or after is None:
            return "–"
        difference = after - before
        return {
            "%": lambda: format_points(difference),
            "nats": lambda: f"{difference:+.3f}",
            "ms": lambda: f"{difference:+.0f} ms",
            "MB": lambda: f"{difference / 1e6:+.1f} MB",
            "": lambda: f"{difference:+,.0f}",
        }[self.unit]()


FIGURES = (
    Figure("accuracy", _("Accuracy")),
    Figure("top5", _("Top 5")),
    Figure("macro_f1", _("Macro F1")),
    Figure("log_loss", _("Log-loss"), "nats", more_is_better=False),
    Figure("ece", _("Calibration error"), more_is_better=False),
    Figure("ece_before", _("… before temperature"), more_is_better=False),
    Figure("latency_ms", _("Latency"), "ms", more_is_better=False),
    Figure("size_bytes", _("Size"), "MB", more_is_better=False),
    Figure("n", _("Test products"), ""),
)
CLASS_FIGURES = ("train", "n", "accuracy", "precision", "f1")


def key_figures(version: ModelVersion) -> list[dict[str, Any]]:
    """Return the key figures, including those that were not recorded."""
    rows = []
    for figure in FIGURES:
        value = figure.value_in(version.metrics)
        shown = figure.format_value(value)
        rows.append({"key": figure.key, "name": figure.name, "value": value, "shown": shown})
    return rows


def category_figures(version: ModelVersion, names: dict[str, str]) -> list[dict[str, Any]]:
    """Return the figures of each category, the worst F1 first; `names` maps slugs to names."""
    by_slug = version.metrics.get("classes", {})
    rows = [{"slug": slug, "name": names.get(slug, slug), **row} for slug, row in by_slug.items()]
    return sorted(rows, key=lambda row: row.get("f1", 0))


@dataclass(frozen=True)
class Comparison:
    """Two versions of one modality side by side. `is_fair`: both were measured on the same test products."""

    first: ModelVersion
    second: ModelVersion
    is_fair: bool
    figures: list[dict[str, Any]]
    classes: list[dict[str, Any]]


def compare_metrics(first: ModelVersion, second: ModelVersion, names: dict[str, str]) -> Comparison:
    """Compare the second with the first. Raises ValueError for versions of different modalities."""
    if first.modality != second.modality:
        raise ValueError(f"{first} and {second} are of different modalities")
    datasets = [version.lineage.get("dataset") for version in (first, second)]
    rows = []
    for figure in FIGURES:
        before, after = figure.value_in(first.metrics), figure.value_in(second.metrics)
        rows.append(
            {
                "key": figure.key,
                "name": figure.name,
                "first": before,
                "second": after,
                "first_shown": figure.format_value(before),
                "second_shown": figure.format_value(after),
                "change": figure.format_change(before, after),
            }
        )
    # The same dataset is not enough: a version that lacks a category was measured without that category's products.
    counts = {version.metrics.get("n") for version in (first, second)}
    is_fair = first == second or (None not in datasets and len(set(datasets)) == len(counts) == 1)
    return Comparison(first, second, is_fair, rows, _classes(first, second, names))


def _classes(first: ModelVersion, second: ModelVersion, names: dict[str, str]) -> list[dict[str, Any]]:
    before, after = (version.metrics.get("classes", {}) for version in (first, second))
    rows = []
    for slug in sorted({*before, *after}):
        f1 = [part.get(slug, {}).get("f1") for part in (before, after)]
        rows.append(
            {
                "slug": slug,
                "name": names.get(slug, slug),
                "n": after.get(slug, before.get(slug, {})).get("n"),
                "first": f1[0],
                "second": f1[1],
                "difference": None if None in f1 else f1[1] - f1[0],
            }
        )
    return sorted(rows, key=lambda row: (row["difference"] is None, row["difference"] or 0))
