from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from django.utils.translation import override

from common import formatting


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0.973, 0, "97%"),
        (0.973, 1, "97.3%"),
        (0.0, 0, "0%"),
        (1.0, 1, "100.0%"),
        (0.004, 0, "<1%"),
        (0.0004, 1, "<0.1%"),
        (0.996, 0, ">99%"),
        (0.9996, 1, ">99.9%"),
    ],
)
def test_a_share_is_never_rounded_to_none_or_all(share: float, digits: int, text: str) -> None:
    assert formatting.format_percent(share, digits) == text


@pytest.mark.parametrize(("probability", "text"), [(0.0, "<1%"), (0.82, "82%"), (1.0, ">99%")])
def test_a_probability_is_never_certain(probability: float, text: str) -> None:
    assert formatting.format_probability(probability) == text


def test_counts_and_decimals_follow_the_language() -> None:
    assert (formatting.format_count(1_234_567), formatting.format_percent(0.973, 1)) == ("1,234,567", "97.3%")
    with override("de"):
        assert (formatting.format_count(1_234_567), formatting.format_percent(0.973, 1)) == ("1.234.567", "97,3%")


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(34.6, "35 ms"), (999.4, "999 ms"), (999.6, "1.0 s"), (1234.0, "1.2 s")]
)
def test_durations_are_milliseconds_below_a_second(milliseconds: float, text: str) -> None:
    assert formatting.format_duration(milliseconds) == text


def test_an_interval_has_its_number_of_rows() -> None:
    assert formatting.format_interval(0.729, 0.77, 1_234, 1) == "72.9–77.0%, n 1,234"


@pytest.mark.parametrize(("difference", "text"), [(0.012, "+1.2"), (-0.012, "-1.2"), (0.0, "+0.0")])
def test_a_difference_is_shown_in_points_with_its_sign(difference: float, text: str) -> None:
    assert formatting.format_points(difference) == text


def test_days_and_times_are_those_of_utc() -> None:
    tokyo = datetime(2026, 12, 1, 8, 5, tzinfo=timezone(timedelta(hours=9)))
    assert formatting.format_day(tokyo) == "2026-11-30" == formatting.format_day(date(2026, 11, 30))
    assert formatting.format_minute(tokyo) == "2026-11-30 23:05" == formatting.format_minute(tokyo.astimezone(UTC))
