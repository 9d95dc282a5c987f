"""Does an engine answer as the reference does? Measured on labelled products and kept with the version."""

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

LEAST_ROWS = 2_000
LEAST_AGREEMENT = 0.995
MOST_LOST = 0.003  # of accuracy


@dataclass(frozen=True)
class EngineCheck:
    """How an engine's likeliest categories compare with the reference's on `n` products."""

    n: int
    agreement: float
    accuracy: float
    reference_accuracy: float

    def __str__(self) -> str:
        return _(
            "%(verdict)s: agrees on %(agreement)s of %(n)d products; right on %(own)s, the reference on %(its)s"
        ) % {
            "verdict": _("passed") if self.passed else _("failed"),
            "agreement": f"{self.agreement:.2%}",
            "n": self.n,
            "own": f"{self.accuracy:.2%}",
            "its": f"{self.reference_accuracy:.2%}",
        }

    @property
    def passed(self) -> bool:
        alike = self.agreement >= LEAST_AGREEMENT and self.reference_accuracy - self.accuracy <= MOST_LOST
        return self.n >= LEAST_ROWS and alike


def compare_engines(
    version: ModelVersion, products: Sequence[LabelledProduct], *, least: int, progress: Callable[[int], None]
) -> dict[str, EngineCheck]:
    """Ask the reference and every engine of this machine about up to `least` products that the version can look at.

    Return each engine's check by its name; one that can't be built has none. Raises ArtifactError and StorageDown.
    """
    device = pick_device(model_cache.device_name())
    reference = model_cache.load_uncached(version, (f"torch f32 {device.type}",))
    kind = "openvino" if device.type == "cpu" else "torch"
    names = [f"{kind} {precision} {device.type}" for precision in engines.fast_precisions(kind, device)]
    models = {name: model_cache.load_uncached(version, (name,)) for name in names if name != reference.engine}
    models = {name: model for name, model in models.items() if model.engine == name}
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*models, reference.engine)}
    targets: list[int] = []
    for batch in labelled_products.product_batches(products, version.modality, reference.labels):
        batch = batch[: least - len(targets)]
        targets += [reference.labels.index(product.slug) for product, _photo in batch]
        for name, model in (*models.items(), (reference.engine, reference)):
            found[name].append(labelled_products.ask(model, version.modality, batch).probabilities.argmax(axis=1))
        progress(len(batch))
        if len(targets) == least:
            break
    if not targets:
        return {}
    best = {name: np.concatenate(parts) for name, parts in found.items()}
    truth, wanted = np.array(targets), best[reference.engine]
    accuracy = float((wanted == truth).mean())
    return {
        name: EngineCheck(
            len(truth), float((best[name] == wanted).mean()), float((best[name] == truth).mean()), accuracy
        )
        for name in models
    }


@transaction.atomic
def store_check(version: ModelVersion, name: str, check: EngineCheck) -> None:
    """Keep the check with the version: workers go by it from their next batch on."""
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
