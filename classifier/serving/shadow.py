"""Run the shadows on products that are answered already; store their answers for comparison only."""

import logging
from collections.abc import Sequence

from classifier.modalities import MODALITIES
from classifier.models import Category, ModelVersion, Prediction, ShadowAnswer
from classifier.registry import traffic
from classifier.serving.inference import ModelOutput, describe_error, round_probabilities, run_version
from classifier.serving.results import AnsweredProduct

log = logging.getLogger(__name__)


def run_shadows(answered: Sequence[AnsweredProduct], categories: Sequence[Category]) -> None:
    """Run the shadows on products whose results are stored and announced; log what fails, and raise nothing.

    They run only while no prediction is due: their answers are a sample, taken when workers have time.
    """
    try:
        shadows = traffic.shadows_by_modality()
        # Asked now, not before: products may have arrived while the batch was computed.
        if not any(shadows.values()) or Prediction.objects.due().exists():
            return
        for modality, entry in MODALITIES.items():
            readable = [each for each in answered if entry.accepts(each.product)]
            if not readable:
                continue
            for variant in shadows[modality]:
                rows = _shadow_answers(variant.version, readable, categories)
                # A prediction that was queued again may have an answer already: the first one stays.
                ShadowAnswer.objects.bulk_create(rows, ignore_conflicts=True)
    except Exception:  # a shadow must never delay or fail a seller's product
        log.exception("The shadows' answers could not be stored.")


def _shadow_answers(
    version: ModelVersion, answered: Sequence[AnsweredProduct], categories: Sequence[Category]
) -> list[ShadowAnswer]:
    slugs = [category.slug for category in categories]
    try:
        outputs = run_version(version, [each.product for each in answered], slugs)
    except Exception as error:  # noqa: BLE001 - stored, and compared like any other figure
        log.warning("The shadow %s failed for %d rows: %s", version, len(answered), type(error).__name__)
        message = describe_error(error)
        return [ShadowAnswer(prediction=each.prediction, version=version, error=message) for each in answered]
    return [_row(each, output, categories) for each, output in zip(answered, outputs, strict=True)]


def _row(answered: AnsweredProduct, output: ModelOutput, categories: Sequence[Category]) -> ShadowAnswer:
    best = int(output.probabilities.argmax())
    live = answered.result.outputs.get(output.version.modality)
    return ShadowAnswer(
        prediction=answered.prediction,
        version=output.version,
        probabilities=round_probabilities(output.probabilities, categories),
        best=categories[best].slug,
        agrees=None if live is None else best == int(live.probabilities.argmax()),
        engine=output.engine,
        milliseconds=output.milliseconds,
    )
