"""Build the table of each model's accuracy and of the ensemble weights that follow from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from classifier.models import ModelVersion
from common.formatting import format_percent
from feedback.monitoring.baselines import VersionPair
from feedback.monitoring.dashboard.figures import Figure, share_figure
from feedback.monitoring.dashboard.health_data import HealthData
from feedback.statistics.counters import MODEL_NAMES
from feedback.statistics.intervals import MINIMUM_ROWS, accuracy_weights


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model: its accuracy where both answered and wherever it answered, and its weights."""

    name: str
    where_both_answered: Figure
    where_it_answered: Figure | None
    measured_weight: str
    registered_weight: str


@dataclass(frozen=True, slots=True)
class ModelsPanel:
    """The rows, and which weights are known."""

    rows: Sequence[ModelRow]
    has_measured_weights: bool
    has_registered_weights: bool
    minimum_rows: int = MINIMUM_ROWS


def build_models(data: HealthData) -> ModelsPanel:
    """Build the table; the registered weights are known only for one pair of versions."""
    labels = {"text": _("Text model"), "image": _("Image model"), "ensemble": _("Both together")}
    together, alone = data.total.answers.accuracy_on_common_products(), data.total.answers.accuracy_by_model()
    measured = accuracy_weights(together) or {}
    registered = _registered_weights(data.scope.pair, data.versions)
    rows = []
    for name in MODEL_NAMES:
        rows.append(
            ModelRow(
                name=labels[name],
                where_both_answered=share_figure(together[name]),
                where_it_answered=share_figure(alone[name]) if name in alone else None,
                measured_weight=_weight(measured, name),
                registered_weight=_weight(registered, name),
            )
        )
    return ModelsPanel(rows, bool(measured), bool(registered))


def _weight(weights: Mapping[str, float], name: str) -> str:
    return format_percent(weights[name], digits=1) if name in weights else ""


def _registered_weights(pair: VersionPair | None, versions: Mapping[int, ModelVersion]) -> dict[str, float]:
    """Return the ensemble weights that follow from the registered accuracies of a pair; none without both models."""
    accuracies = {}
    for pk in pair or ():
        version = versions.get(pk) if pk else None
        if version is not None:
            accuracies[version.modality] = version.accuracy
    total = sum(accuracies.values())
    if len(accuracies) < 2 or not total:
        return {}
    return {name: value / total for name, value in accuracies.items()}
