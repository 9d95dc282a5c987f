"""Read sellers' answers from the database and convert them to the columns that fraud statistics take."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from common.sql import fetch_rows, load_query
from feedback.models import Feedback
from feedback.statistics.fraud.answer_log import CONFIDENCE_BANDS, NO_PREDICTION, AnswerLog

ROWS_PER_QUERY = 5000
ANSWER_LOG = load_query(__file__, "answer_log")

Versions = tuple[int | None, int | None]  # of the text model and of the image model


@dataclass(frozen=True)
class AnswerRow:
    """A row of answer_log.sql. A cursor outside the ORM returns JSON columns as text."""

    prediction_id: UUID
    seller_id: int
    answered_at: float
    chosen: str | None
    earlier: str | None
    text_version_id: int | None
    image_version_id: int | None
    predicted: str | None
    confidence: float | None
    text_top: str | None
    image_top: str | None
    text_probability: float | None
    image_probability: float | None
    ensemble_probability: float | None
    text_probabilities: str | None
    image_probabilities: str | None
    ensemble_probabilities: str | None


@dataclass(frozen=True)
class AnswerRecord:
    """One answer as it was at some time, beside what the models predicted.

    `answered_at` is in seconds since 1970; `chosen` is a slug, None for "none of these". The probabilities are those of
    the chosen category.
    """

    prediction: UUID
    seller: int
    answered_at: float
    chosen: str | None
    versions: Versions
    predicted: str | None
    confidence: float | None
    text_top: str | None
    image_top: str | None
    text_probability: float | None
    image_probability: float | None
    ensemble_probability: float | None


@dataclass(frozen=True)
class AnswerHistory:
    """A seller's answers to one prediction, the first answer first."""

    answers: tuple[AnswerRecord, ...]

    def as_of(self, moment: float) -> AnswerRecord | None:
        """Return the answer that was valid at a time; None before the first one."""
        for answer in reversed(self.answers):
            if answer.answered_at <= moment:
                return answer
        return None


def read_answers_since(moment: datetime) -> Iterator[AnswerHistory]:
    """Yield the histories of answers that were given or changed after a time, in constant memory."""
    ids = Feedback.objects.filter(answered_at__gt=moment, prediction__state="done").order_by()
    yield from _read_histories(ids.values_list("pk", flat=True).iterator(chunk_size=ROWS_PER_QUERY))


def read_seller_answers(seller: int, *, most: int) -> list[AnswerHistory]:
    """Return the histories of a seller's latest answers, in no particular order."""
    ids = Feedback.objects.filter(seller=seller, prediction__state="done").order_by("-answered_at")
    return list(_read_histories(ids.values_list("pk", flat=True)[:most]))


class CodeTable:
    """Numbers for categories (slugs) and pairs of versions, as used in totals: positions in lists that only grow."""

    def __init__(self, categories: Sequence[str], versions: Sequence[Sequence[int | None]]) -> None:
        self.categories = list(categories)
        self.versions: list[Versions] = [(text, image) for text, image in versions]
        self._category_codes = {slug: code for code, slug in enumerate(self.categories)}
        self._version_codes = {pair: code for code, pair in enumerate(self.versions)}

    def category_code(self, slug: str) -> int:
        """Return the number of a category, adding it if it is new."""
        if slug not in self._category_codes:
            self._category_codes[slug] = len(self.categories)
            self.categories.append(slug)
        return self._category_codes[slug]

    def version_code(self, pair: Versions) -> int:
        """Return the number of a pair of versions, adding it if it is new."""
        if pair not in self._version_codes:
            self._version_codes[pair] = len(self.versions)
            self.versions.append(pair)
        return self._version_codes[pair]

    def encode_answers(self, answers: Iterable[AnswerRecord]) -> AnswerLog:
        """Return as columns the answers that name a category."""
        named = [answer for answer in answers if answer.chosen and answer.predicted]
        return AnswerLog(
            seller=_to_integers(answer.seller for answer in named),
            version=_to_integers(self.version_code(answer.versions) for answer in named),
            predicted=_to_integers(self._top_code(answer.predicted) for answer in named),
            chosen=_to_integers(self._top_code(answer.chosen) for answer in named),
            text_top=_to_integers(self._top_code(answer.text_top) for answer in named),
            image_top=_to_integers(self._top_code(answer.image_top) for answer in named),
            confidence=_to_floats(answer.confidence for answer in named),
            text_probability=_to_floats(answer.text_probability for answer in named),
            image_probability=_to_floats(answer.image_probability for answer in named),
            ensemble_probability=_to_floats(answer.ensemble_probability for answer in named),
            answered_at=_to_floats(answer.answered_at for answer in named),
        )

    def _top_code(self, slug: str | None) -> int:
        return NO_PREDICTION if slug is None else self.category_code(slug)


def _to_integers(values: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.array(list(values), np.int64)


def _to_floats(values: Iterable[float | None]) -> npt.NDArray[np.float64]:
    return np.array(list(values), np.float64)  # None becomes NaN


def _read_histories(feedback_ids: Iterable[UUID]) -> Iterator[AnswerHistory]:
    # An answer that changes between the queries does no harm: its history still holds what was valid before.
    ids = iter(feedback_ids)
    while batch := list(islice(ids, ROWS_PER_QUERY)):
        parameters = {"feedback_ids": batch, "lowest_band": CONFIDENCE_BANDS[0]}
        for row in fetch_rows(ANSWER_LOG, parameters, AnswerRow):
            yield _make_history(row)


def _make_history(row: AnswerRow) -> AnswerHistory:
    current = AnswerRecord(
        prediction=row.prediction_id,
        seller=row.seller_id,
        answered_at=row.answered_at,
        chosen=row.chosen,
        versions=(row.text_version_id, row.image_version_id),
        predicted=row.predicted,
        confidence=row.confidence,
        text_top=row.text_top,
        image_top=row.image_top,
        text_probability=row.text_probability,
        image_probability=row.image_probability,
        ensemble_probability=row.ensemble_probability,
    )
    answers = []
    for earlier in _read_json(row.earlier) or []:
        slug = earlier["category"]
        answers.append(
            replace(
                current,
                answered_at=_to_seconds(earlier["answered_at"]),
                chosen=slug,
                text_probability=_probability_of(slug, row.text_probabilities),
                image_probability=_probability_of(slug, row.image_probabilities),
                ensemble_probability=_probability_of(slug, row.ensemble_probabilities),
            )
        )
    return AnswerHistory((*answers, current))


def _probability_of(slug: str | None, probabilities: str | None) -> float | None:
    found = (_read_json(probabilities) or {}).get(slug)
    return None if found is None else float(found)


def _read_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _to_seconds(moment: str) -> float:
    at = datetime.fromisoformat(moment)
    # Times that an older version of Aisle stored without a zone are UTC.
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
