"""Describe single figures of the staff pages: a value with its note, or why there is none."""

from dataclasses import dataclass

from django.utils.translation import gettext as _

from common.formatting import format_duration, format_interval, format_percent
from feedback.statistics.intervals import MINIMUM_ROWS, ROUNDING_TOLERANCE, Estimate


@dataclass(frozen=True, slots=True)
class Figure:
    """A named figure as a template shows it; `missing` says why there is no value."""

    name: str = ""
    value: str = ""
    note: str = ""
    missing: str = ""
    url: str = ""


def missing_figure(name: str = "", reason: str = "") -> Figure:
    """Return a figure without a value; by default there is not enough data for it."""
    return Figure(name, missing=reason or _("not enough data"))


def share_figure(estimate: Estimate | None, name: str = "", *, digits: int = 1, url: str = "") -> Figure:
    """Return a share with its interval and n, or how many rows are missing for it."""
    if estimate is not None and estimate.is_enough:
        note = format_interval(estimate.low, estimate.high, estimate.rows, digits)
        return Figure(name, format_percent(estimate.value, digits), note, url=url)
    rows = int(estimate.effective + ROUNDING_TOLERANCE) if estimate else 0
    counts = {"rows": rows, "least": MINIMUM_ROWS}
    return Figure(name, missing=_("not enough data: %(rows)d of %(least)d") % counts, url=url)


def duration_figure(milliseconds: float | None, name: str = "", note: str = "") -> Figure:
    """Return a duration, or a missing figure for None."""
    if milliseconds is None:
        return missing_figure(name)
    return Figure(name, format_duration(milliseconds), note)
