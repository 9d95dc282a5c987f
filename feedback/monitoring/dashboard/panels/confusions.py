"""Build the heat map of confusions between categories, and the examples behind a chosen cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.http import HttpRequest, QueryDict
from django.utils.safestring import SafeString

from common import charts
from feedback.monitoring.dashboard.health_data import HealthData
from feedback.monitoring.dashboard.names import page_address
from feedback.monitoring.dashboard.panels.examples import ExampleProduct, pick_examples
from feedback.statistics.counters import ConfusionCell


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the heat map: the true category and the predicted one, by slug or by name."""

    true: str
    given: str


@dataclass(frozen=True, slots=True)
class ConfusionsPanel:
    """The heat map, None without reviewed products, and the chosen cell by name with its examples."""

    heatmap: SafeString | None
    is_limited: bool
    cell: Cell | None
    examples: Sequence[ExampleProduct]


def read_cell(query: QueryDict) -> Cell | None:
    """Return the cell that the address asks for; None unless it names both categories."""
    cell = Cell(query.get("true", ""), query.get("given", ""))
    return cell if cell.true and cell.given else None


def cell_example_ids(data: HealthData, cell: Cell | None) -> list[str]:
    """Return the ids of the predictions behind a cell, the most confident first."""
    if cell is None:
        return []
    examples = data.total.answers.confusions.get((cell.true, cell.given), ConfusionCell()).examples
    return [example.id for example in examples]


def build_confusions(
    request: HttpRequest, data: HealthData, cell: Cell | None, examples: Mapping[str, ExampleProduct]
) -> ConfusionsPanel:
    """Build the heat map; each of its cells links to the page with that cell's examples."""
    category = data.breakdown.key if data.breakdown and data.breakdown.by == "category" else ""
    names = data.category_names
    named_cell = None
    if cell is not None:
        named_cell = Cell(names.get(cell.true, cell.true), names.get(cell.given, cell.given))
    return ConfusionsPanel(
        heatmap=_heatmap(request, data, category),
        is_limited=bool(category),
        cell=named_cell,
        examples=pick_examples(cell_example_ids(data, cell), examples),
    )


def _heatmap(request: HttpRequest, data: HealthData, category: str) -> SafeString | None:
    """Return the heat map of all categories, or of the cells that one category is part of."""
    counts = {}
    for (true, given), cell in data.total.answers.confusions.items():
        if not category or category in (true, given):
            counts[true, given] = cell.rows
    if not counts:
        return None

    def link(true: str, given: str) -> str:
        return page_address(request, true=true, given=given) + "#examples"

    return charts.heatmap(counts, data.category_names, link)
