"""Arrange a prediction's suggestions for the result page."""

from dataclasses import dataclass
from typing import Any, Self

from django.conf import settings

from classifier.models import Prediction
from portal.products.confidence import Confidence, confidence

Suggestion = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ArrangedSuggestions:
    """The five suggestions: one to accept with a single tap, those shown as rows, and those folded away."""

    best: Suggestion | None
    rows: list[Suggestion]
    unlikely: list[Suggestion]

    @classmethod
    def of(cls, prediction: Prediction, *, is_answered: bool) -> Self:
        """Arrange the suggestions of a prediction.

        There is no best one when the models are not sure, which would invite a hasty yes, or when the seller has
        answered and is looking for another category.
        """
        suggestions: list[Suggestion] = prediction.top5 or []
        if not suggestions or not prediction.is_calibrated:
            return cls(None, suggestions, [])
        rows = [row for row in suggestions if row["probability"] >= settings.UNLIKELY]
        unlikely = [row for row in suggestions if row["probability"] < settings.UNLIKELY]
        if is_answered or not rows or confidence(rows[0]["probability"]) == Confidence.NOT_SURE:
            return cls(None, rows, unlikely)
        return cls(rows[0], rows[1:], unlikely)
