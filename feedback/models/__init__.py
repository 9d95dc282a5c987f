"""The database models: answers, reviews, summaries, reports, fraud cases and erasures."""

from feedback.models.answers import PREDICTIONS_VECTORS, Feedback, FeedbackQuerySet
from feedback.models.cases import Case, CaseEvent, CaseProduct, FraudTally
from feedback.models.erasures import Erasure, ErasureBatch
from feedback.models.health import DriftReference, HealthSummary, Period, VersionHour
from feedback.models.reports import MonitoringReport
from feedback.models.reviews import CategoryProposal, Reason, Review

__all__ = [
    "PREDICTIONS_VECTORS",
    "Case",
    "CaseEvent",
    "CaseProduct",
    "CategoryProposal",
    "DriftReference",
    "Erasure",
    "ErasureBatch",
    "Feedback",
    "FeedbackQuerySet",
    "FraudTally",
    "HealthSummary",
    "MonitoringReport",
    "Period",
    "Reason",
    "Review",
    "VersionHour",
]
