"""Estimate how long a training run takes: from runs that ended here, or else from this machine's speed."""

import time
from dataclasses import dataclass
from functools import cache
from statistics import median

import numpy as np
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from classifier.modalities import MODALITIES
from training.models import Dataset, Example, TrainingRun

# Seconds for each product of a whole fit, measured by `python -m benchmarks.recipes --quick` on two cores that multiply
# REFERENCE_SPEED.
SECONDS_PER_PRODUCT = {
    "text": {"head": 0.017, "lora": 0.042, "partial": 0.033, "full": 0.047, "starter": 0.026, "everyday": 0.033},
    "image": {"head": 0.036, "partial": 0.11, "full": 0.28, "starter": 0.20},
}
REFERENCE_SPEED = 250e9  # floating-point operations a second
STARTING_SECONDS = 30.0  # of any run, however many products it has
EARLIER_RUNS = 3  # whose median counts
ENDED = (TrainingRun.State.DEPLOYED, TrainingRun.State.REGISTERED, TrainingRun.State.HELD, TrainingRun.State.REJECTED)
MATRIX_SIZE = 768  # of the matrices that are multiplied to measure the machine
TRIES = 3


@dataclass(frozen=True)
class DurationEstimate:
    """The seconds that a run is expected to take; `is_measured` when earlier runs here are the basis."""

    seconds: float
    is_measured: bool

    def __str__(self) -> str:
        minutes = round(self.seconds / 60)
        if minutes < 1:
            return _("under a minute")
        if minutes < 90:
            return ngettext("about %(count)d minute", "about %(count)d minutes", minutes) % {"count": minutes}
        return _("about %(count).1f hours") % {"count": self.seconds / 3600}


def estimate_duration(modality: str, recipe: str, products: int) -> DurationEstimate | None:
    """Return how long a run takes; None for a recipe that the modality doesn't have."""
    known = SECONDS_PER_PRODUCT[modality].get(recipe)
    if known is None:
        return None
    if measured := _seconds_per_product(modality, recipe):
        return DurationEstimate(STARTING_SECONDS + measured * products, is_measured=True)
    return DurationEstimate(STARTING_SECONDS + known * products * REFERENCE_SPEED / machine_speed(), is_measured=False)


def count_products(modality: str, dataset: Dataset | None = None) -> int:
    """Return how many products of a dataset, or of all examples, a model of the modality can learn from."""
    entry = MODALITIES[modality]
    if dataset is not None:
        return sum(int(counts[entry.corpus_count]) for counts in dataset.manifest["splits"].values())
    return Example.objects.usable().exclude(**entry.empty_input).count()


@cache
def machine_speed() -> float:
    """Measure how many floating-point operations a second this machine does when it multiplies matrices."""
    matrix = np.ones((MATRIX_SIZE, MATRIX_SIZE), np.float32)
    times = []
    for _try in range(TRIES):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2 * MATRIX_SIZE**3 / min(times)


def _seconds_per_product(modality: str, recipe: str) -> float | None:
    """Return the median seconds for each product of the latest comparable runs; None when none ended here."""
    comparable = {"trials": 0, "processes": 1, "machines": 1, "parent": None}
    runs = TrainingRun.objects.filter(modality=modality, recipe__name=recipe, state__in=ENDED, **comparable)
    latest = runs.exclude(dataset=None).select_related("dataset").order_by("-finished_at")[:EARLIER_RUNS]
    rates = []
    for run in latest:
        count = count_products(modality, run.dataset)
        if count and run.started_at and run.finished_at:
            seconds = (run.finished_at - run.started_at).total_seconds() - STARTING_SECONDS
            rates.append(max(seconds, 0.0) / count)
    return median(rates) if rates else None
