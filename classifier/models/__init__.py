"""The database models: categories, predictions, model versions and the reference set."""

from classifier.modalities import Modality
from classifier.models.category import Category, CategoryAlias, CategorySearchTerm
from classifier.models.model_version import (
    Decision,
    Deployment,
    DistributionDetector,
    EnsembleRule,
    ModelVersion,
    Variant,
)
from classifier.models.prediction import VECTORS, Fault, Prediction, ShadowAnswer
from classifier.models.reference_product import ReferenceAnswer, ReferenceProduct
from classifier.models.taxonomy import CategoryBefore, Reassignment, TaxonomyChange, TaxonomyVersion

__all__ = [
    "VECTORS",
    "Category",
    "CategoryAlias",
    "CategoryBefore",
    "CategorySearchTerm",
    "Decision",
    "Deployment",
    "DistributionDetector",
    "EnsembleRule",
    "Fault",
    "Modality",
    "ModelVersion",
    "Prediction",
    "Reassignment",
    "ReferenceAnswer",
    "ReferenceProduct",
    "ShadowAnswer",
    "TaxonomyChange",
    "TaxonomyVersion",
    "Variant",
]
