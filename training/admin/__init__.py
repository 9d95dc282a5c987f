"""Register training's admin pages, by subject."""

from training.admin.data import DatasetAdmin, ExampleAdmin
from training.admin.reference import ReferenceProductAdmin
from training.admin.runs import TrainingRunAdmin

__all__ = ["DatasetAdmin", "ExampleAdmin", "ReferenceProductAdmin", "TrainingRunAdmin"]
