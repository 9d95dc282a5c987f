"""Build the tables of the latest drift reports, with the products that changed most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from common.formatting import format_count
from feedback.models import MonitoringReport
from feedback.monitoring import queries
from feedback.monitoring.dashboard.health_data import HealthData
from feedback.monitoring.dashboard.names import pair_name
from feedback.monitoring.dashboard.panels.examples import ExampleProduct, pick_examples
from feedback.monitoring.drift_labels import drift_label
from feedback.statistics.drift.codes import ColumnState, current_code

EXAMPLES_PER_COLUMN = 5
COLOURS = {ColumnState.DRIFTED: "danger", ColumnState.NOT_ENOUGH_DATA: "info", ColumnState.STABLE: "success"}
ORDER = (ColumnState.DRIFTED, ColumnState.STABLE, ColumnState.NOT_ENOUGH_DATA)


@dataclass(frozen=True, slots=True)
class ColumnRow:
    """One column of a report, with the products of the window that changed most."""

    column: str
    state: str
    colour: str
    measure: str
    value: str
    limit: str
    rows: str
    examples: Sequence[ExampleProduct]


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A report on one pair, drifted columns first."""

    report: MonitoringReport
    rows: Sequence[ColumnRow]


@dataclass(frozen=True, slots=True)
class BaselineNote:
    """What a pair is compared with, and since when."""

    pair: str
    origin: str
    since: datetime


@dataclass(frozen=True, slots=True)
class DriftPanel:
    """The latest report of each pair, and the baselines."""

    reports: Sequence[ReportTable]
    baselines: Sequence[BaselineNote]


def drift_example_ids(data: HealthData) -> list[str]:
    """Return the ids of the predictions that the tables show as examples."""
    ids: list[str] = []
    for report in data.reports:
        for finding in report.figures.get("findings", []):
            ids += finding["rows"][:EXAMPLES_PER_COLUMN]
    return ids


def build_drift(data: HealthData, examples: Mapping[str, ExampleProduct]) -> DriftPanel:
    """Build the tables."""
    tables = []
    for report in data.reports:
        findings = sorted(report.figures.get("findings", []), key=_state_order)
        tables.append(ReportTable(report, [_column_row(finding, examples) for finding in findings]))
    return DriftPanel(tables, _baseline_notes(data))


def _state_order(finding: Mapping[str, Any]) -> int:
    return ORDER.index(ColumnState(current_code(finding["state"])))


def _column_row(finding: Mapping[str, Any], examples: Mapping[str, ExampleProduct]) -> ColumnRow:
    state = ColumnState(current_code(finding["state"]))
    return ColumnRow(
        column=drift_label(finding["column"]),
        state=drift_label(state),
        colour=COLOURS[state],
        measure=drift_label(finding["measure"]),
        value="" if finding["value"] is None else f"{finding['value']:.3g}",
        limit=_limit(finding),
        rows=f"{format_count(finding['window'])} / {format_count(finding['reference'])}",
        examples=pick_examples(finding["rows"][:EXAMPLES_PER_COLUMN], examples),
    )


def _limit(finding: Mapping[str, Any]) -> str:
    if finding["threshold"] is not None:
        return _("drift from %(threshold)g on") % finding
    if finding["p"] is None:
        return ""
    return _("p < 0.001") if finding["p"] < 0.001 else _("p = %(p).3f") % finding


def _baseline_notes(data: HealthData) -> list[BaselineNote]:
    notes = []
    for pair, row in queries.drift_references().items():
        is_known = all(pk in data.versions for pk in pair if pk)
        if is_known and data.scope.pair in (None, pair):
            notes.append(BaselineNote(pair_name(pair, data.versions), row.get_origin_display(), row.since))
    return notes
