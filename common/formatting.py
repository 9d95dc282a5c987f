"""Format numbers and times for people: one format on every page, in mail and in reports.

Separators follow the active language. Times are shown in UTC.
"""

from datetime import UTC, date, datetime
from decimal import Decimal

from django.utils.formats import number_format

MISSING = "–"
SECOND = 1000  # milliseconds
LEAST_PROBABILITY = 0.01


def format_count(count: int) -> str:
    """Return "1,234"."""
    return number_format(count, force_grouping=True)


def format_number(value: float, digits: int) -> str:
    """Return a number with a fixed number of decimal digits, such as "1,234.5"."""
    # Rounded here: number_format cuts surplus digits off.
    return number_format(Decimal(f"{value:.{digits}f}"), digits, force_grouping=True)


def format_percent(share: float, digits: int = 0) -> str:
    """Return a share of 1 as "97%".

    A share that only rounding would make 0% or 100% is "<1%" or ">99%" instead.
    """
    least = 10.0**-digits
    percent = round(100 * share, digits)
    # "0%" would claim that something never happens, and "100%" that it always does.
    if percent == 0 and share > 0:
        return f"<{format_number(least, digits)}%"
    if percent == 100 and share < 1:
        return f">{format_number(100 - least, digits)}%"
    return f"{format_number(percent, digits)}%"


def format_probability(probability: float) -> str:
    """Return a model's probability as "82%", and neither "0%" nor "100%": a model is never certain."""
    return format_percent(min(max(probability, LEAST_PROBABILITY / 10), 1 - LEAST_PROBABILITY / 10))


def format_points(difference: float, digits: int = 1) -> str:
    """Return a difference of two shares in percentage points with its sign, such as "+1.2"."""
    sign = "+" if round(100 * difference, digits) >= 0 else "-"
    return f"{sign}{format_number(abs(100 * difference), digits)}"


def format_range(low: float, high: float, digits: int = 0) -> str:
    """Return the ends of an interval of shares with a dash between them."""
    return f"{format_number(100 * low, digits)}–{format_number(100 * high, digits)}%"


def format_interval(low: float, high: float, rows: int, digits: int = 0) -> str:
    """Return the interval of an estimate with the number of rows behind it."""
    return f"{format_range(low, high, digits)}, n {format_count(rows)}"


def format_duration(milliseconds: float) -> str:
    """Return "35 ms" or, from a second on, "1.2 s"."""
    if round(milliseconds) < SECOND:
        return f"{format_number(milliseconds, 0)} ms"
    return f"{format_number(milliseconds / SECOND, 1)} s"


def format_day(day: date) -> str:
    """Return a day as "2026-11-30"; of a time, its day in UTC."""
    if isinstance(day, datetime):
        day = day.astimezone(UTC).date()
    return day.isoformat()


def format_minute(moment: datetime) -> str:
    """Return a time in UTC as "2026-11-30 14:05"."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
