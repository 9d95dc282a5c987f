"""Charts as inline SVG and HTML, drawn on the server: no script, readable in light and dark."""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from common.formatting import format_percent, format_range
from common.intervals import wilson_interval

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34
LINE_TICKS = 5
MOST_CLASSES = 30
MOST_CONFUSIONS = 8


def line(
    *, title: str, x_label: str, y_label: str, series: Sequence[dict[str, Any]], from_zero: bool = False
) -> SafeString:
    """Return a line chart. `series`: {"name", "points": [(x, y), ...]}; points that are no numbers are left out.

    A series may have a "band", the intervals of its points: [(x, low, high), ...]. `from_zero`: the scale
    begins at 0, as that of counts should.
    """
    drawn = [
        {
            "name": each["name"],
            "points": [p for p in each["points"] if all(math.isfinite(v) for v in p)],
            "band": each.get("band", []),
        }
        for each in series
    ]
    drawn = [each for each in drawn if each["points"]]
    context: dict[str, Any] = {"title": title, "x_label": x_label, "y_label": y_label, "series": []}
    points = [point for each in drawn for point in each["points"]]
    if points:
        heights = [p[1] for p in points] + [edge for each in drawn for _x, *edges in each["band"] for edge in edges]
        heights += [0] if from_zero else []
        x, y = _Axis([p[0] for p in points], LEFT, WIDTH - RIGHT), _Axis(heights, HEIGHT - BOTTOM, TOP)
        context |= _frame(x, y)
        for number, each in enumerate(drawn):
            last = each["points"][-1]
            places = [(x.place(px), y.place(py)) for px, py in each["points"]]
            there = [(px, high) for px, _low, high in each["band"]]
            back = [(px, low) for px, low, _high in reversed(each["band"])]
            context["series"].append(
                {
                    "name": each["name"],
                    "last": f"{last[1]:.4g}",
                    "number": number % 4,
                    "path": " ".join(f"{px:.1f},{py:.1f}" for px, py in places),
                    "dots": places if len(places) < 20 else places[-1:],
                    "band": " ".join(f"{x.place(px):.1f},{y.place(py):.1f}" for px, py in [*there, *back]),
                }
            )
    return _render("line", context)


def reliability(
    bins: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]] | None = None, name: str = ""
) -> SafeString:
    """Return a reliability diagram: how often right over how sure, with 95 % intervals and the counts underneath.

    `bins` as `training.acceptance.metrics.reliability_bins` gives them; `before`: the same before temperature scaling.
    """
    x, y = _Axis([0, 1], LEFT, WIDTH - RIGHT), _Axis([0, 1], HEIGHT - BOTTOM, TOP)
    most = max((row["count"] for row in bins), default=0) or 1
    step, rows = 1 / max(len(bins), 1), []
    for number, row in enumerate(bins):
        strip = 36 * row["count"] / most
        entry = {
            "low": f"{100 * number * step:.0f}",
            "high": f"{100 * (number + 1) * step:.0f}",
            "count": row["count"],
            "x": x.place(number * step) + 1,
            "width": (WIDTH - LEFT - RIGHT) * step - 2,
            "strip_y": 40 - strip,
            "strip": strip,
        }
        if row["count"]:
            low, high = wilson_interval(row["accuracy"] * row["count"], row["count"])
            entry |= {
                "cx": x.place(row["confidence"]),
                "cy": y.place(row["accuracy"]),
                "low_y": y.place(low),
                "high_y": y.place(high),
                "confidence": format_percent(row["confidence"]),
                "accuracy": format_percent(row["accuracy"]),
                "interval": format_range(low, high),
            }
        rows.append(entry)
    earlier = [(x.place(r["confidence"]), y.place(r["accuracy"])) for r in before or [] if r["count"]]
    diagonal = {"x1": x.place(0), "y1": y.place(0), "x2": x.place(1), "y2": y.place(1)}
    context = {"rows": rows, "before": earlier, "diagonal": diagonal, "name": name, **_frame(x, y, percent=True)}
    context["before_path"] = " ".join(f"{px:.1f},{py:.1f}" for px, py in earlier)
    return _render("reliability", context)


def heatmap(
    counts: Mapping[tuple[str, str], int],
    names: Mapping[str, str],
    link: Callable[[str, str], str] | None = None,
) -> SafeString:
    """Return a confusion heat map, rows as shares, with the most frequent confusions in words beside it.

    `counts`: {(true category, given category): products}, without the pairs that never came up. Of more than 30
    categories those with the most mistakes are shown. `link` gives the address of what lies behind a cell.
    """
    totals, wrong = Counter[str](), Counter[str]()
    for (true, given), count in counts.items():
        totals[true] += count
        if true != given:
            wrong.update({true: count, given: count})
    labels = sorted({label for pair in counts for label in pair})
    kept = sorted(sorted(labels, key=lambda label: -wrong[label])[:MOST_CLASSES])

    def name(label: str) -> str:
        return names.get(label, label)

    def url(true: str, given: str) -> str:
        return link(true, given) if link and counts.get((true, given)) else ""

    rows = [
        {
            "number": number,
            "name": name(true),
            "total": totals[true],
            "cells": [
                _cell(counts.get((true, given), 0), totals[true], true == given, name(true), name(given))
                | {"url": url(true, given)}
                for given in kept
            ],
        }
        for number, true in enumerate(kept, start=1)
    ]
    mistakes = [(count, true, given) for (true, given), count in counts.items() if true != given and count]
    confusions = [
        {
            "true": name(true),
            "given": name(given),
            "count": count,
            "share": format_percent(count / totals[true]),
            "url": url(true, given),
        }
        for count, true, given in heapq.nlargest(MOST_CONFUSIONS, mistakes)
    ]
    return _render("heatmap", {"rows": rows, "confusions": confusions, "left_out": len(labels) - len(kept)})


class _Axis:
    """A scale with round ticks, from values to places in the drawing."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        if high == low:
            low, high = low - 0.5, high + 0.5
        step: float = 10.0 ** math.floor(math.log10((high - low) / LINE_TICKS))
        step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= LINE_TICKS)
        self.step = step
        self.low, self.high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        return round(self._start + (value - self.low) / (self.high - self.low) * (self._end - self._start), 1)

    def ticks(self, *, percent: bool = False) -> list[dict[str, Any]]:
        count = round((self.high - self.low) / self.step)
        values = [self.low + number * self.step for number in range(count + 1)]
        return [
            {"at": self.place(value), "label": format_percent(value) if percent else f"{value:.4g}"} for value in values
        ]


def _frame(x: _Axis, y: _Axis, *, percent: bool = False) -> dict[str, Any]:
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
        "x_ticks": x.ticks(percent=percent),
        "y_ticks": y.ticks(percent=percent),
    }


def _cell(count: int, total: int, is_right: bool, true: str, given: str) -> dict[str, Any]:
    share = count / total if total else 0.0
    return {
        "level": math.ceil(10 * share) if count else 0,
        "text": "" if share < 0.005 else f"{100 * share:.0f}",
        "title": f"{true} → {given}: {count} / {total}",
        "is_right": is_right,
    }


def _render(name: str, context: dict[str, Any]) -> SafeString:
    return SafeString(render_to_string(f"admin/charts/{name}.html", context))
