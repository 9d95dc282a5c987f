"""The health page's section on drift, and the products that it and the confusions lead to."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _

from classifier.admin import photo_tag
from classifier.models import ModelVersion, Prediction
from feedback.models import MonitoringReport
from feedback.monitoring import queries
from feedback.monitoring.dashboard.formatting import pair_name
from feedback.monitoring.queries import Scope
from feedback.statistics.counters import PAIR_SEPARATOR, AnswerStatistics
from feedback.statistics.drift.two_sample_tests import DRIFTED, NOT_ENOUGH_DATA

EXAMPLES = 5
STATES = {DRIFTED: "danger", NOT_ENOUGH_DATA: "info"}
ORDER = {DRIFTED: 0, NOT_ENOUGH_DATA: 2}


def finding_block(report: MonitoringReport) -> dict[str, Any]:
    """Return a report's columns, those that drifted first, with what they are told by and the rows that moved most."""
    rows = [
        {
            "column": finding["column"],
            "state": finding["state"],
            "colour": STATES.get(finding["state"], "success"),
            "measure": finding["measure"],
            "value": "" if finding["value"] is None else f"{finding['value']:.3g}",
            "limit": _limit(finding),
            "rows": f"{finding['window']:,} / {finding['reference']:,}",
            "ids": finding["rows"][:EXAMPLES],
        }
        for finding in sorted(report.figures.get("findings", []), key=lambda each: ORDER.get(each["state"], 1))
    ]
    return {"report": report, "rows": rows}


def with_examples(block: Mapping[str, Any], products: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {**block, "rows": [row | {"examples": known(row["ids"], products)} for row in block["rows"]]}


def cell_examples(answers: AnswerStatistics, true: str, given: str) -> list[str]:
    _count, examples = answers.cells.get(PAIR_SEPARATOR.join((true, given)), (0, []))
    return [id for _confidence, id in examples]


def products(ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what a link to a product shows, by its prediction's id; erased ones are not among them."""
    rows = Prediction.objects.filter(pk__in=ids).only("pk", "title", "photo_small", "top5")
    return {
        str(row.pk): {
            "id": row.pk,
            "title": row.title[:60] or _("without a title"),
            "photo": photo_tag(row, "small") if row.photo_small else "",
            "best": row.best,
        }
        for row in rows
    }  # fmt: skip


def known(ids: Sequence[str], products: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [products[id] for id in ids if id in products]


def origins(scope: Scope, versions: Mapping[int, ModelVersion]) -> list[dict[str, Any]]:
    """Return what each pair is compared with."""
    return [
        {"pair": pair_name(pair, versions), "origin": row.get_origin_display(), "since": row.since}
        for pair, row in queries.drift_references().items()
        if scope.pair in (None, pair) and all(pk in versions for pk in pair if pk)
    ]


def _limit(finding: Mapping[str, Any]) -> str:
    if finding["threshold"] is not None:
        return _("drift from %(threshold)g on") % finding
    if finding["p"] is None:
        return ""
    return _("p < 0.001") if finding["p"] < 0.001 else _("p = %(p).3f") % finding
