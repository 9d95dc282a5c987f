"""Find sellers who put products into a wrong category on purpose, from the totals of their answers.

The method, its symbols and their sources are described in docs/fraud-statistics.md.
"""

from feedback.statistics.fraud.answer_log import AnswerLog, SellerTotals, add_answers, remove_answers
from feedback.statistics.fraud.detection import (
    ABOVE_PEERS,
    ALONE,
    GROUP,
    ONE_CATEGORY,
    SCATTERED,
    FraudFindings,
    SellerFinding,
    assess_sellers,
)

__all__ = [
    "ABOVE_PEERS",
    "ALONE",
    "GROUP",
    "ONE_CATEGORY",
    "SCATTERED",
    "AnswerLog",
    "FraudFindings",
    "SellerFinding",
    "SellerTotals",
    "add_answers",
    "assess_sellers",
    "remove_answers",
]
