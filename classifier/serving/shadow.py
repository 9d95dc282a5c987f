"""Shadows answer what was answered already: stored to be compared, never shown."""

import logging
from collections.abc import Sequence

from classifier.models import Category, Modality, ModelVersion, Prediction, ShadowAnswer
from classifier.registry import traffic
from classifier.serving.inference import (
    ModelOutput,
    PredictionResult,
    ProductInput,
    describe_error,
    round_probabilities,
    run_version,
)

log = logging.getLogger(__name__)

Answered = tuple[ProductInput, PredictionResult]


def run_shadows(answered: Sequence[Answered], categories: Sequence[Category]) -> None:
    """Ask the shadows about questions whose answers are stored and announced. Whatever fails here harms nobody.

    They are asked only when no seller's product is due: what they see is a sample, taken when there is time.
    """
    try:
        shadows = traffic.shadows_by_modality()
        if not any(shadows.values()) or Prediction.objects.due().exists():
            return
        for modality in Modality.values:
            asked = [pair for pair in answered if pair[0].is_for(modality)]
            for variant in shadows[modality] if asked else ():
                rows = _answers(variant.version, asked, categories)
                ShadowAnswer.objects.bulk_create(rows, ignore_conflicts=True)
    except Exception:  # a shadow's trouble is nobody's trouble
        log.exception("The shadows' answers could not be stored.")


def _answers(version: ModelVersion, asked: Sequence[Answered], categories: Sequence[Category]) -> list[ShadowAnswer]:
    questions = [question for question, _answer in asked]
    try:
        said = run_version(version, questions, [category.slug for category in categories])
    except Exception as error:  # noqa: BLE001 - written down, and compared like any other figure
        log.warning("The shadow %s failed for %d rows: %s", version, len(asked), type(error).__name__)
        return [
            ShadowAnswer(prediction=question.prediction, version=version, error=describe_error(error))
            for question in questions
        ]
    return [
        _row(one, question, answer.of(version.modality), categories)
        for one, (question, answer) in zip(said, asked, strict=True)
    ]


def _row(
    said: ModelOutput, question: ProductInput, live: ModelOutput | None, categories: Sequence[Category]
) -> ShadowAnswer:
    best = int(said.probabilities.argmax())
    return ShadowAnswer(
        prediction=question.prediction,
        version=said.version,
        probabilities=round_probabilities(said.probabilities, categories),
        best=categories[best].slug,
        agrees=None if live is None else best == int(live.probabilities.argmax()),
        engine=said.engine,
        milliseconds=said.milliseconds,
    )
