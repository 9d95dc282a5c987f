"""Register the admin pages of categories, predictions and model versions."""

from classifier.admin.base import ReadOnlyAdmin, SellersAdmin, photo_tag, suggestion_bars, top_suggestions
from classifier.admin.categories import CategoryAdmin
from classifier.admin.ensemble_rules import EnsembleRuleAdmin
from classifier.admin.model_versions import ModelVersionAdmin
from classifier.admin.predictions import PredictionAdmin
from classifier.admin.variants import DeploymentAdmin, FaultAdmin, VariantAdmin

__all__ = [
    "CategoryAdmin",
    "DeploymentAdmin",
    "EnsembleRuleAdmin",
    "FaultAdmin",
    "ModelVersionAdmin",
    "PredictionAdmin",
    "ReadOnlyAdmin",
    "SellersAdmin",
    "VariantAdmin",
    "photo_tag",
    "suggestion_bars",
    "top_suggestions",
]
