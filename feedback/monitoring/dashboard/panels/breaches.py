"""Build the list of the latest breaches."""

from collections.abc import Sequence
from dataclasses import dataclass

from feedback.models import MonitoringReport
from feedback.monitoring import queries
from feedback.monitoring.dashboard.health_data import HealthData

MAX_BREACHES = 8


@dataclass(frozen=True, slots=True)
class BreachesPanel:
    """The reports of the breaches, the newest first."""

    reports: Sequence[MonitoringReport]


def build_breaches(data: HealthData) -> BreachesPanel:
    """Build the list of the scope's breaches."""
    return BreachesPanel(queries.recent_breaches(data.scope, MAX_BREACHES))
