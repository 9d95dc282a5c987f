from classifier.models.category import Category, CategoryAlias
from classifier.models.prediction import VECTORS, Fault, Prediction, ShadowAnswer
from classifier.models.reference_product import ReferenceAnswer, ReferenceProduct
from classifier.models.versions import Decision, Deployment, EnsembleRule, Familiar, Modality, ModelVersion, Variant

__all__ = [
    "VECTORS",
    "Category",
    "CategoryAlias",
    "Decision",
    "Deployment",
    "EnsembleRule",
    "Familiar",
    "Fault",
    "Modality",
    "ModelVersion",
    "Prediction",
    "ReferenceAnswer",
    "ReferenceProduct",
    "ShadowAnswer",
    "Variant",
]
