"""Sellers whose choices look like intent rather than error: statistics over a log of answers."""

from feedback.statistics.fraud.answer_log import Log, Tally, fold, unfold
from feedback.statistics.fraud.detection import (
    ABOVE_PEERS,
    ALONE,
    GROUP,
    ONE_CATEGORY,
    SCATTERED,
    Finding,
    Judgement,
    judge,
)

__all__ = [
    "ABOVE_PEERS",
    "ALONE",
    "GROUP",
    "ONE_CATEGORY",
    "SCATTERED",
    "Finding",
    "Judgement",
    "Log",
    "Tally",
    "fold",
    "judge",
    "unfold",
]
