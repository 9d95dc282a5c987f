"""Configure the app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ClassifierConfig(AppConfig):
    name = "classifier"
    verbose_name = _("Classifier")

    def ready(self) -> None:
        from classifier.taxonomy.references import keep_references

        # The category that takes the place of another one may have the same search term; the search follows redirects.
        keep_references("classifier.CategorySearchTerm.category")
