"""Measure on labelled products whether an engine agrees with the reference engine, and store the result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from classifier.ml import engines
from classifier.ml.encoders import pick_device
from classifier.models import ModelVersion
from classifier.registry import model_cache
from training.datasets import labelled_products
from training.datasets.labelled_products import LabelledProduct

MIN_ROWS = 2_000
MIN_AGREEMENT = 0.995
MAX_ACCURACY_LOSS = 0.003


@dataclass(frozen=True)
class EngineCheck:
    """How an engine's likeliest categories compare with the reference's on `n` products."""

    n: int
    agreement: float
    accuracy: float
    reference_accuracy: float

    def __str__(self) -> str:
        return _(
            "%(verdict)s: agrees on %(agreement)s of %(n)d products; accuracy %(own)s, the reference's %(reference)s"
        ) % {
            "verdict": _("passed") if self.passed else _("failed"),
            "agreement": f"{self.agreement:.2%}",
            "n": self.n,
            "own": f"{self.accuracy:.2%}",
            "reference": f"{self.reference_accuracy:.2%}",
        }

    @property
    def passed(self) -> bool:
        """Whether workers may use the engine."""
        agrees = self.agreement >= MIN_AGREEMENT
        is_accurate = self.reference_accuracy - self.accuracy <= MAX_ACCURACY_LOSS
        return self.n >= MIN_ROWS and agrees and is_accurate


def compare_engines(
    version: ModelVersion, products: Sequence[LabelledProduct], *, least: int, progress: Callable[[int], None]
) -> dict[str, EngineCheck]:
    """Compare this machine's engines with the reference on the first `least` products that the version can read.

    Return each engine's check by its name; one that can't be built has none. Raises ArtifactError and StorageDown.
    """
    device = pick_device(model_cache.device_name())
    reference = model_cache.load_uncached(version, (f"torch f32 {device.type}",))
    kind = "openvino" if device.type == "cpu" else "torch"
    names = [f"{kind} {precision} {device.type}" for precision in engines.fast_precisions(kind, device)]
    models = {name: model_cache.load_uncached(version, (name,)) for name in names if name != reference.engine}
    # A model whose engine could not be built has fallen back to another one.
    models = {name: model for name, model in models.items() if model.engine == name}
    predicted: dict[str, list[np.ndarray]] = {name: [] for name in (*models, reference.engine)}
    targets: list[int] = []
    for batch in labelled_products.product_batches(products, version.modality, reference.labels):
        batch = batch[: least - len(targets)]
        targets += [reference.labels.index(product.slug) for product, _photo in batch]
        for name, model in (*models.items(), (reference.engine, reference)):
            output = labelled_products.predict_products(model, batch)
            predicted[name].append(output.probabilities.argmax(axis=1))
        progress(len(batch))
        if len(targets) == least:
            break
    if not targets:
        return {}
    truth = np.array(targets)
    by_reference = np.concatenate(predicted[reference.engine])
    reference_accuracy = float((by_reference == truth).mean())
    checks = {}
    for name in models:
        by_engine = np.concatenate(predicted[name])
        agreement, accuracy = float((by_engine == by_reference).mean()), float((by_engine == truth).mean())
        checks[name] = EngineCheck(len(truth), agreement, accuracy, reference_accuracy)
    return checks


@transaction.atomic
def store_check(version: ModelVersion, name: str, check: EngineCheck) -> None:
    """Store the check with the version; workers choose their engine by it from their next batch on."""
    # Locked, because two machines may store checks of different engines in one JSON column.
    row = ModelVersion.objects.select_for_update().only("engines").get(pk=version.pk)
    row.engines[name] = {
        "library": engines.library_version(name),
        "n": check.n,
        "agreement": round(check.agreement, 5),
        "accuracy": round(check.accuracy, 5),
        "reference_accuracy": round(check.reference_accuracy, 5),
        "passed": check.passed,
        "checked_at": timezone.now().isoformat(timespec="seconds"),
    }
    row.save(update_fields=["engines"])
