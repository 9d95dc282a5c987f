"""Configure the app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class FeedbackConfig(AppConfig):
    name = "feedback"
    verbose_name = _("Feedback")

    def ready(self) -> None:
        from classifier.taxonomy.references import keep_references

        # What sellers and reviewers said stays as they said it; readers follow the category's redirect.
        keep_references("feedback.Feedback.category", "feedback.Feedback.correction", "feedback.Review.category")
