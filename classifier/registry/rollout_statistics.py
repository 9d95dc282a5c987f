"""Decide from counts and times whether a version under test must stop. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

CERTAINTY = 0.99  # tested every minute: 0.95 would stop good versions
PRIOR = 0.5  # Jeffreys prior


@dataclass(frozen=True)
class Record:
    """One version's recent counts: rows answered and failed, and its times by the size of the pass.

    `times`: {log2 of the rows in a pass, rounded: (median milliseconds a row, rows)}. A pass over many rows costs less
    for each of them, so that only passes of similar size are comparable.
    """

    answered: int = 0
    failed: int = 0
    times: Mapping[int, tuple[float, int]] = field(default_factory=dict)

    @property
    def attempts(self) -> int:
        return self.answered + self.failed

    @property
    def error_rate(self) -> float:
        return self.failed / self.attempts if self.attempts else 0.0


@dataclass(frozen=True)
class Budget:
    """The limits of a new version: share of failed rows, time relative to the others, and rows before either counts."""

    error_rate: float
    latency_ratio: float
    least: int


def reason_to_stop(new: Record, others: Record, budget: Budget) -> str:
    """Return the reason why the new version must stop, or an empty string."""
    if (
        new.attempts >= budget.least
        and exceeds_error_rate(new, budget.error_rate)
        and exceeds_error_rate(new, others.error_rate)
    ):
        return f"{new.failed} of {new.attempts} rows failed: more than {budget.error_rate:.1%}"
    ratio = latency_ratio(new, others, least=budget.least)
    if ratio is not None and ratio > budget.latency_ratio:
        return f"{ratio:.1f} times as slow as the others: more than {budget.latency_ratio:g}"
    return ""


def exceeds_error_rate(record: Record, rate: float) -> bool:
    """Return whether the error rate is above `rate` with a posterior probability of CERTAINTY."""
    from scipy.special import betaincc

    return bool(betaincc(PRIOR + record.failed, PRIOR + record.answered, rate) > CERTAINTY)


def latency_ratio(new: Record, others: Record, *, least: int) -> float | None:
    """Return how many times as long as the others the new version takes, or None with too few rows.

    Sizes of pass are weighted by the new version's rows.
    """
    # Times of a size that only one side has can't be compared.
    common = [size for size in new.times if size in others.times]
    count = sum(min(new.times[size][1], others.times[size][1]) for size in common)
    expected = sum(others.times[size][0] * new.times[size][1] for size in common)
    if count < least or expected <= 0:
        return None
    return sum(new.times[size][0] * new.times[size][1] for size in common) / expected
