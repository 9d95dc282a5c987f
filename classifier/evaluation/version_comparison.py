"""Compare two versions on the same products for the pages of versions, runs and deployments."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from classifier.evaluation import quality_reports
from classifier.evaluation.category_coverage import Coverage, coverage_of
from classifier.evaluation.paired_tests import PairedFigure, PairedFigures
from classifier.evaluation.reference_set import compare_on_reference, labelled_count
from classifier.models import ModelVersion
from classifier.registry import traffic

# Where both have answered a smaller share of the reference products, the page offers to measure them again.
ENOUGH_MEASURED = 0.9
SHOWN = ("accuracy", "top5", "log_loss")
TONES: dict[str, str | Promise] = {
    "better": gettext_lazy("better"),
    "worse": gettext_lazy("worse"),
    "same": gettext_lazy("no difference"),
    "chance": gettext_lazy("may be chance"),
}
BASES: dict[str, str | Promise] = {
    "reference": gettext_lazy("Reference set"),
    "test": gettext_lazy("Test split of the candidate's dataset, categories that both know"),
    "lacking": gettext_lazy("Reference set, categories that the candidate's dataset lacks"),
}


@dataclass(frozen=True)
class SideBySide:
    """What a page shows of `after` replacing `before`: coverage, lost categories, figures on the same products."""

    before: ModelVersion | None
    after: ModelVersion
    coverages: list[tuple[ModelVersion, Coverage]]
    lost: list[str]
    tables: list[dict[str, Any]] = field(default_factory=list)
    measure_url: str = ""

    @property
    def phrase(self) -> str:
        """What a person types to deploy a version that loses categories; empty when none is lost."""
        return _("lose %(count)d") % {"count": len(self.lost)} if self.lost else ""


def compare_with_live(after: ModelVersion) -> SideBySide:
    """Compare a version with the champion; lost are the categories that any other live version can suggest."""
    serving = [variant.version for variant in traffic.live_variants(after.modality) if variant.version != after]
    labels = {label for version in serving for label in version.labels}
    return side_by_side(serving[0] if serving else None, after, served=labels)


def side_by_side(
    before: ModelVersion | None, after: ModelVersion, *, served: Collection[str] | None = None
) -> SideBySide:
    """Compare two versions on the reference set, and on the test split where the gate compared them.

    `served` are the labels that must not be lost, by default those of `before`.
    """
    if served is None:
        served = before.labels if before else ()
    found = coverage_of(after.labels, before=served)
    coverages = [(after, found)]
    if before and before != after:
        coverages.insert(0, (before, coverage_of(before.labels)))
    tables, measure_url = [], ""
    if before and before != after:
        figures = compare_on_reference(before, after)
        if figures:
            tables.append(_table("reference", figures))
        if figures is None or figures.n < ENOUGH_MEASURED * labelled_count(after.modality):
            measure_url = _measure_url(before, after)
        if after.lineage.get("compared_with") == before.pk and "test" in after.gate:
            tables.append(_table("test", PairedFigures.from_json(after.gate["test"])))
    return SideBySide(before, after, coverages, list(found.lost.values()), tables, measure_url)


def comparison_at_gate(version: ModelVersion) -> SideBySide | None:
    """Return the gate's comparison with the champion at the time of training, or None where it made none."""
    before = ModelVersion.objects.filter(pk=version.lineage.get("compared_with")).first()
    if not version.gate or before is None:
        return None
    then = Coverage.from_json(version.gate["coverage"])
    return SideBySide(
        before,
        version,
        [(version, then)],
        list(then.lost.values()),
        [_table(basis, PairedFigures.from_json(version.gate[basis])) for basis in BASES if version.gate.get(basis)],
    )


def figure_rows(figures: PairedFigures) -> Iterable[dict[str, Any]]:
    """Yield a row for each figure: both values, the difference with its interval, and its assessment.

    `tone` is "better" or "worse" where the interval excludes 0, "same" where nothing differs, else "chance".
    """
    for shown in (figure for figure in quality_reports.FIGURES if figure.key in SHOWN):
        found: PairedFigure = getattr(figures, shown.key)
        tone = "chance"
        if found.is_clear:
            tone = "better" if (found.difference > 0) == shown.more_is_better else "worse"
        elif found.low == found.high:
            tone = "same"
        yield {
            "key": shown.key,
            "name": shown.name,
            "first": shown.format_value(found.first),
            "second": shown.format_value(found.second),
            "change": shown.format_change(found.first, found.second),
            "interval": f"{shown.format_change(0.0, found.low)} … {shown.format_change(0.0, found.high)}",
            "tone": tone,
            "tone_words": TONES[tone],
        }


def _table(basis: str, figures: PairedFigures) -> dict[str, Any]:
    return {"title": BASES[basis], "n": figures.n, "figures": figures, "rows": list(figure_rows(figures))}


def _measure_url(*versions: ModelVersion) -> str:
    """Return the URL of the page that measures versions; empty where the app `training` is not installed."""
    try:
        return reverse("admin:reference_measure", args=["-".join(str(version.pk) for version in versions)])
    except NoReverseMatch:
        return ""
