"""Answers as the database has them -> the columns that the statistics take."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
from django.db import connection

from feedback.statistics.fraud.answer_log import CONFIDENCE_BANDS, NO_PREDICTION, AnswerLog

FETCHED = 5000
# Numbers rather than whole distributions leave the database; those come along only where an answer was changed, for
# the earlier ones' categories are named there by their slugs. A model's likeliest category counts only where
# the ensemble is sure, and whoever gives the ensemble's category more than a half has no other: few rows are sorted.
TOP = f"""
CASE WHEN (p.top5->0->>'probability')::float >= {CONFIDENCE_BANDS[0]} THEN
    CASE WHEN (p.{{0}}_probabilities->>(p.top5->0->>'slug'))::float > 0.5 THEN p.top5->0->>'slug'
    ELSE (SELECT key FROM jsonb_each_text(p.{{0}}_probabilities) ORDER BY value::float DESC, key LIMIT 1) END
END"""  # noqa: S608 - made of a number
CHANGED = "CASE WHEN f.earlier <> '[]' THEN p.{}probabilities END"
ANSWERS = f"""
SELECT f.prediction_id, f.seller_id, extract(epoch FROM f.answered_at)::float, c.slug, NULLIF(f.earlier, '[]'),
    p.text_version_id, p.image_version_id,
    p.top5->0->>'slug', (p.top5->0->>'probability')::float, {TOP.format("text")}, {TOP.format("image")},
    (p.text_probabilities->>c.slug)::float, (p.image_probabilities->>c.slug)::float,
    (p.probabilities->>c.slug)::float,
    {CHANGED.format("text_")}, {CHANGED.format("image_")}, {CHANGED.format("")}
FROM feedback_feedback f JOIN classifier_prediction p ON p.id = f.prediction_id
LEFT JOIN classifier_category c ON c.id = f.category_id
WHERE p.state = 'done' AND {{where}}
"""  # noqa: S608 - made of the names above
SINCE = ANSWERS.format(where="f.answered_at > %s")
OF_SELLER = ANSWERS.format(where="f.seller_id = %s") + "ORDER BY f.answered_at DESC LIMIT %s"


@dataclass(frozen=True)
class AnswerRecord:
    """One answer as it stood at some time. `chosen`: a slug, None for "none fits"."""

    prediction: UUID
    seller: int
    at: float
    chosen: str | None
    versions: tuple[int | None, int | None]
    predicted: str | None
    confidence: float | None
    tops: tuple[str | None, str | None]
    given: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class AnswerHistory:
    """What a seller said of one prediction, the first answer first."""

    answers: tuple[AnswerRecord, ...]

    def as_of(self, moment: float) -> AnswerRecord | None:
        """Return the answer that stood then; None before the first one."""
        return next((said for said in reversed(self.answers) if said.at <= moment), None)


def read_answers_since(moment: datetime) -> Iterator[AnswerHistory]:
    """Yield what was answered, or answered anew, after that moment. Memory stays flat."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(SINCE, [moment])
        while rows := cursor.fetchmany(FETCHED):
            yield from map(_history, rows)


def read_seller_answers(seller: int, *, most: int) -> list[AnswerHistory]:
    """Return what a seller answered last, the newest first."""
    with connection.cursor() as cursor:
        cursor.execute(OF_SELLER, [seller, most])
        return [_history(row) for row in cursor.fetchall()]


class CodeTable:
    """Numbers of categories (slugs) and versions (pairs) in a tally: their places in lists that only grow."""

    def __init__(self, categories: list[str], versions: list[list[int | None]]) -> None:
        self.categories, self.versions = list(categories), [tuple(pair) for pair in versions]
        self._category = {slug: number for number, slug in enumerate(self.categories)}
        self._version = {pair: number for number, pair in enumerate(self.versions)}

    def category(self, slug: str) -> int:
        if slug not in self._category:
            self._category[slug] = len(self.categories)
            self.categories.append(slug)
        return self._category[slug]

    def version(self, pair: tuple[int | None, int | None]) -> int:
        if pair not in self._version:
            self._version[pair] = len(self.versions)
            self.versions.append(pair)
        return self._version[pair]

    def log(self, answers: list[AnswerRecord]) -> AnswerLog:
        """Return answers that name a category as columns."""
        named = [said for said in answers if said.chosen and said.predicted]

        def top(slug: str | None) -> int:
            return NO_PREDICTION if slug is None else self.category(slug)

        def ints(values: Iterator[int]) -> Any:
            return np.fromiter(values, np.int64, len(named))

        def floats(values: Iterator[float | None]) -> Any:
            return np.fromiter((np.nan if v is None else v for v in values), np.float64, len(named))

        return AnswerLog(
            seller=ints(said.seller for said in named),
            version=ints(self.version(said.versions) for said in named),
            predicted=ints(self.category(said.predicted or "") for said in named),
            chosen=ints(self.category(said.chosen or "") for said in named),
            text_top=ints(top(said.tops[0]) for said in named),
            image_top=ints(top(said.tops[1]) for said in named),
            confidence=floats(said.confidence for said in named),
            text=floats(said.given[0] for said in named),
            image=floats(said.given[1] for said in named),
            ensemble=floats(said.given[2] for said in named),
            answered_at=floats(said.at for said in named),
        )


def _history(row: tuple[Any, ...]) -> AnswerHistory:
    prediction, seller, at, chosen, earlier, text_version, image_version, predicted, confidence, *rest = row
    tops, given, whole = tuple(rest[:2]), tuple(rest[2:5]), rest[5:]
    versions = (text_version, image_version)

    def said(at: float, chosen: str | None, given: Any) -> AnswerRecord:
        return AnswerRecord(prediction, seller, at, chosen, versions, predicted, confidence, tops, given)

    replaced = []
    for answer in _json(earlier) or []:
        slug = answer["category"]
        known = tuple((_json(each) or {}).get(slug) for each in whole)
        replaced.append(said(_seconds(answer["answered_at"]), slug, known))
    return AnswerHistory((*replaced, said(at, chosen, given)))


def _json(value: Any) -> Any:
    """A raw cursor gives JSON as text."""
    return json.loads(value) if isinstance(value, str) else value


def _seconds(moment: str) -> float:
    at = datetime.fromisoformat(moment)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
