"""When a version under test is worse than it may be: pure functions over counts and times."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scipy.special import betaincc

CERTAINTY = 0.99  # it is asked every minute, so that 0.95 would stop good versions
PRIOR = 0.5  # Jeffreys


@dataclass(frozen=True)
class Record:
    """What is known of one version lately: rows answered and failed, and its times by the size of the pass.

    `times`: {log2 of the rows in a pass, rounded: (median milliseconds a row, rows)}. A pass over many rows costs less
    for each of them, so that only passes of like sizes compare.
    """

    answered: int = 0
    failed: int = 0
    times: Mapping[int, tuple[float, int]] = field(default_factory=dict)

    @property
    def tries(self) -> int:
        return self.answered + self.failed

    @property
    def error_rate(self) -> float:
        return self.failed / self.tries if self.tries else 0.0


@dataclass(frozen=True)
class Budget:
    """What a new version may cost: its share of failed rows, its time beside the others', from how many rows on."""

    error_rate: float
    latency_ratio: float
    least: int


def reason_to_stop(new: Record, others: Record, budget: Budget) -> str:
    """Return why the new version must stop, in words, or nothing."""
    if (
        new.tries >= budget.least
        and exceeds_error_rate(new, budget.error_rate)
        and exceeds_error_rate(new, others.error_rate)
    ):
        return f"{new.failed} of {new.tries} rows failed: more than {budget.error_rate:.1%}"
    ratio = latency_ratio(new, others, least=budget.least)
    if ratio is not None and ratio > budget.latency_ratio:
        return f"{ratio:.1f} times as slow as the others: more than {budget.latency_ratio:g}"
    return ""


def exceeds_error_rate(record: Record, rate: float) -> bool:
    """Whether the record's error rate is above `rate`, almost surely: by the posterior of its rows."""
    return bool(betaincc(PRIOR + record.failed, PRIOR + record.answered, rate) > CERTAINTY)


def latency_ratio(new: Record, others: Record, *, least: int) -> float | None:
    """Return how many times as long the new version takes, weighted by its rows, or None with too few rows."""
    common = [size for size in new.times if size in others.times]
    count = sum(min(new.times[size][1], others.times[size][1]) for size in common)
    expected = sum(others.times[size][0] * new.times[size][1] for size in common)
    if count < least or expected <= 0:
        return None
    return sum(new.times[size][0] * new.times[size][1] for size in common) / expected
