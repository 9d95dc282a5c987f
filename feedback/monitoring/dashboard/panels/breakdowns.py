"""Build the tables by category, by cohort of sellers and by language."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.translation import gettext as _

from common.formatting import format_count
from feedback.monitoring.dashboard.figures import Figure, share_figure
from feedback.monitoring.dashboard.health_data import HealthData
from feedback.monitoring.dashboard.names import breakdown_value_name, page_address
from feedback.statistics.counters import BREAKDOWNS, COHORTS, AnswerCounts

MAX_ROWS = 12  # of a table by category or language


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """One category, cohort or language; `url` limits the page to it."""

    name: str
    url: str
    predictions: str
    accepted: Figure
    accepted_first: Figure
    correct: Figure


@dataclass(frozen=True, slots=True)
class BreakdownTable:
    """The values with the most predictions.

    `others` values with fewer predictions are left out. `uncounted` predictions are from before cohorts were counted.
    """

    title: str
    rows: Sequence[BreakdownRow]
    others: int
    is_by_cohort: bool
    uncounted: int


def build_breakdowns(request: HttpRequest, data: HealthData) -> list[BreakdownTable]:
    """Build the tables."""
    titles = {
        "category": _("By predicted category"),
        "cohort": _("By how long sellers have been here"),
        "language": _("By language"),
    }
    return [_build_table(request, data, by, title) for by, title in titles.items()]


def _build_table(request: HttpRequest, data: HealthData, by: str, title: str) -> BreakdownTable:
    predictions = data.total.volume.by_breakdown[by]
    is_by_cohort = by == "cohort"
    keys = [*COHORTS] if is_by_cohort else [key for key, _count in predictions.most_common(MAX_ROWS)]
    return BreakdownTable(
        title=title,
        rows=[_build_row(request, data, by, key) for key in keys],
        others=max(len(predictions) - len(keys), 0),
        is_by_cohort=is_by_cohort,
        uncounted=data.total.volume.done - predictions.total() if is_by_cohort else 0,
    )


def _build_row(request: HttpRequest, data: HealthData, by: str, key: str) -> BreakdownRow:
    answers = data.total.answers.by_breakdown[by].get(key, AnswerCounts())
    # A product without text has no language, and an empty value in the address limits nothing.
    url = page_address(request, **{**dict.fromkeys(BREAKDOWNS), by: key}) if key else ""
    return BreakdownRow(
        name=breakdown_value_name(by, key, data.category_names),
        url=url,
        predictions=format_count(data.total.volume.by_breakdown[by][key]),
        accepted=share_figure(answers.proportion("five")),
        accepted_first=share_figure(answers.proportion("first")),
        correct=share_figure(answers.proportion("right", "reviewed")),
    )
