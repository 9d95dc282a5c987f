"""Store and load the baseline that a pair of versions is compared with."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.utils import timezone

from classifier.models import Modality
from feedback.models import DriftReference
from feedback.statistics.drift.codes import embedding_column
from feedback.statistics.drift.columns import Projection
from feedback.statistics.drift.summaries import BinLayout, DriftSummary, FeatureBatch

KINDS = tuple(Modality.values)
MAX_BASELINE_ROWS = 3_000

VersionPair = tuple[int | None, int | None]


@dataclass(frozen=True)
class Baseline:
    """The expected distributions of a pair's inputs and predictions, and the axes of its embeddings."""

    summary: DriftSummary
    projections: Mapping[str, Projection]

    @property
    def layout(self) -> BinLayout:
        """The layout of windows: the baseline's bins, and a sample of the usual size."""
        return BinLayout(self.summary.layout.edges)

    @property
    def dimensions(self) -> dict[str, int]:
        """The number of axes that each modality's embeddings are projected on."""
        return {name: len(projection.axes) for name, projection in self.projections.items()}


def load_baseline(pair: VersionPair) -> Baseline | None:
    """Return the baseline of a pair; None while it has none."""
    row = DriftReference.objects.filter(text_version=pair[0], image_version=pair[1]).first()
    return read_baseline(row) if row else None


def read_baseline(row: DriftReference) -> Baseline:
    """Read the baseline that a row holds."""
    projections = {name: _projection(content) for name, content in row.projections.items()}
    return Baseline(DriftSummary.from_json(row.summary), projections)


def store_baseline(
    pair: VersionPair, rows: FeatureBatch, embeddings: Mapping[str, Any], *, origin: str
) -> DriftReference:
    """Store a baseline of up to 3,000 of these rows and of their embeddings {"text", "image"} (n, dim).

    It replaces the pair's baseline if there is one.
    """
    projections = {}
    vectors = {}
    for name, some in embeddings.items():
        projections[name] = Projection.fit(some)
        vectors[embedding_column(name)] = projections[name].apply(some)
    whole = FeatureBatch(rows.ids, rows.numbers, rows.categories, vectors)
    summary = DriftSummary.of(whole, BinLayout.of(whole, keep=MAX_BASELINE_ROWS))
    return DriftReference.objects.update_or_create(
        text_version_id=pair[0],
        image_version_id=pair[1],
        defaults={
            "origin": origin,
            "summary": summary.to_json(),
            "projections": {name: _content(projection) for name, projection in projections.items()},
            "since": timezone.now(),
        },
    )[0]


def _content(projection: Projection) -> dict[str, Any]:
    return {
        name: {"shape": array.shape, "float32": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()}
        for name, array in projection.arrays().items()
    }


def _projection(content: Mapping[str, Any]) -> Projection:
    arrays = {
        name: np.frombuffer(base64.b64decode(each["float32"]), np.float32).reshape(each["shape"])
        for name, each in content.items()
    }
    return Projection(**arrays)
