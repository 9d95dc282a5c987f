"""The health page's charts."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from common import charts
from feedback.models import Period
from feedback.monitoring import queries
from feedback.monitoring.dashboard.formatting import address, percent
from feedback.monitoring.queries import Breakdown, PeriodFigures, Scope
from feedback.statistics.counters import (
    PAIR_SEPARATOR,
    AnswerStatistics,
    PredictionCounts,
    estimate_from_histogram,
    reliability_diagram,
)
from feedback.statistics.intervals import MINIMUM_ROWS, Estimate
from feedback.statistics.performance_estimation import Calibrator

LEAST_AT_A_POINT = 20


def over_time(
    parts: Sequence[PeriodFigures], scope: Scope, only: Breakdown | None, known: Calibrator | None
) -> dict[str, SafeString]:
    unit = timedelta(hours=1) if scope.period == Period.HOUR else timedelta(days=1)
    end = min(scope.until, timezone.now())
    x_label = _("hours; 0 is %(end)s UTC") if scope.period == Period.HOUR else _("days; 0 is %(end)s UTC")
    x_label %= {"end": f"{end:%d %b %H:%M}"}

    def at(part: PeriodFigures) -> float:
        passed = min(unit, end - part.start)  # of the day that isn't over, what there is
        return (part.start + passed / 2 - end) / unit

    each_day = _("a day; the last one isn't over") if end < scope.until else _("a day")
    counts = [(at(part), queries.prediction_count_in(part, only)) for part in parts]
    found = {
        "volume": charts.line(
            title=_("Predictions"), x_label=x_label,
            y_label=_("an hour") if unit < timedelta(days=1) else each_day,
            series=[{"name": _("Predictions"), "points": counts}] if any(count for _x, count in counts) else [],
            from_zero=True,
        ),
        "answers": charts.line(
            title=_("What sellers said"), x_label=x_label,
            y_label=_("%% of answers; points of at least %(least)d") % {"least": LEAST_AT_A_POINT},
            series=[
                _rates(name, [(at(part), queries.answer_counts_in(part, only).share(of)) for part in parts])
                for name, of in ((_("one of the five"), "five"), (_("the first"), "first"))
            ],
        ),
    }  # fmt: skip
    if only:
        return found
    found["time"] = charts.line(
        title=_("Time to the answer"), x_label=x_label, y_label=_("seconds"),
        series=[
            {"name": name, "points": _times([(at(part), part.volume) for part in parts], share)}
            for name, share in ((_("median"), 0.5), (_("95th percentile"), 0.95))
        ],
    )  # fmt: skip
    estimates = [(at(part), estimate_from_histogram(part.volume.confidence, known)) for part in parts] if known else []
    band = [(x, 100 * each.low, 100 * each.high) for x, each in estimates if each]
    found["estimate"] = charts.line(
        title=_("Accuracy, estimated and reviewed"), x_label=x_label,
        y_label=_("%% right, with 95 %% intervals; points of at least %(least)d") % {"least": LEAST_AT_A_POINT},
        series=[
            {
                "name": _("estimated"),
                "points": [(x, round(100 * each.accuracy, 1)) for x, each in estimates if each],
                "band": band,
            },
            _rates(_("reviewed"), [(at(part), part.answers.accuracy()) for part in parts], with_band=True),
        ],
    )  # fmt: skip
    return found


def reliability(answers: AnswerStatistics) -> SafeString | None:
    found = reliability_diagram(answers.reliability)
    if found is None or answers.weighted[0] < MINIMUM_ROWS:
        return None
    bins = [{"count": b.rows, "confidence": b.confidence, "accuracy": b.accuracy} for b in found.bins]
    return charts.reliability(bins)


def error(answers: AnswerStatistics) -> str:
    found = reliability_diagram(answers.reliability)
    return percent(found.error) if found else ""


def heatmap(
    answers: AnswerStatistics, category: str, names: Mapping[str, str], request: HttpRequest
) -> SafeString | None:
    """Return the confusions, of one category if one is given; each cell leads to products behind it."""
    counts = {}
    for name, (count, _examples) in answers.cells.items():
        true, given = name.split(PAIR_SEPARATOR)
        if not category or category in (true, given):
            counts[true, given] = count
    if not counts:
        return None

    def link(true: str, given: str) -> str:
        return address(request, true=true, given=given) + "#examples"

    return charts.heatmap(counts, names, link)


def _times(parts: Sequence[tuple[float, PredictionCounts]], share: float) -> list[tuple[float, float]]:
    found = [(x, volume.wait.percentile(share)) for x, volume in parts]
    return [(x, milliseconds / 1000) for x, milliseconds in found if milliseconds is not None]


def _rates(name: str, points: Sequence[tuple[float, Estimate | None]], *, with_band: bool = False) -> dict[str, Any]:
    known = [(x, each) for x, each in points if each and each.effective >= LEAST_AT_A_POINT]
    return {
        "name": name,
        "points": [(x, round(100 * each.value, 1)) for x, each in known],
        "band": [(x, 100 * each.low, 100 * each.high) for x, each in known] if with_band else [],
    }
