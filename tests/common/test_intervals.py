import pytest
from scipy import stats

from common.intervals import wilson_interval


@pytest.mark.parametrize(("right", "total"), [(0, 10), (10, 10), (1, 1), (80, 100), (3, 7)])
def test_wilson_interval_equals_scipys(right: int, total: int) -> None:
    known = stats.binomtest(right, total).proportion_ci(method="wilson")
    assert wilson_interval(right, total) == pytest.approx((known.low, known.high))


@pytest.mark.parametrize(("right", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_counts_that_form_no_proportion_raise(right: int, total: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(right, total)
