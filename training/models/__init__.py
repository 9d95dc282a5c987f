"""Define training's tables: examples, datasets and training runs."""

from training.models.dataset import SNAPSHOTS, Dataset
from training.models.example import FEEDBACK, Example, ExampleQuerySet, Split
from training.models.training_run import TrainingRun, TrainingRunQuerySet

__all__ = [
    "FEEDBACK",
    "SNAPSHOTS",
    "Dataset",
    "Example",
    "ExampleQuerySet",
    "Split",
    "TrainingRun",
    "TrainingRunQuerySet",
]
