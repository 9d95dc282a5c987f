from feedback.models.answers import Feedback, FeedbackQuerySet
from feedback.models.reports import MonitoringReport

__all__ = ["Feedback", "FeedbackQuerySet", "MonitoringReport"]
