"""Compare two model versions on the reference products that both have answered."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import QuerySet

from classifier.evaluation.paired_tests import PairedFigures, ProductScores, compare_paired
from classifier.models import Category, ModelVersion, ReferenceAnswer, ReferenceProduct


@dataclass(frozen=True)
class Agreement:
    """On how many of n stored products without a confirmed category two versions make the same first choice."""

    n: int
    agreed: int

    @property
    def share(self) -> float:
        return self.agreed / self.n


def compare_on_reference(first: ModelVersion, second: ModelVersion) -> PairedFigures | None:
    """Compare two versions of one modality on the labelled products that both answered; None where there is none.

    Only answers given with today's active categories count: with others, other choices were possible.
    """
    offer = offer_hash(Category.objects.active().values_list("slug", flat=True))
    answers = [_answers(version, offer) for version in (first, second)]
    common = sorted(set(answers[0]) & set(answers[1]))
    if not common:
        return None
    scored = [ProductScores.from_ranks(*zip(*(found[product] for product in common), strict=True)) for found in answers]
    return compare_paired(*scored)


def labelled_count(modality: str) -> int:
    """Return the number of labelled products on which versions of the modality can be compared."""
    return _labelled(modality).count()


def offer_hash(slugs: Iterable[str]) -> str:
    """Return a short hash that identifies a set of active categories."""
    # Sorted, so that the hash does not depend on the order of a query.
    return hashlib.sha256("\n".join(sorted(slugs)).encode()).hexdigest()[:16]


def _answers(version: ModelVersion, offer: str) -> dict[int, tuple[int, float]]:
    """Return the rank and the probability of each product's category."""
    rows = ReferenceAnswer.objects.filter(version=version, offer=offer, product__in=_labelled(version.modality))
    found = rows.exclude(rank=None).values_list("product", "rank", "probability")
    return {product: (rank or 0, chance or 0.0) for product, rank, chance in found}


def _labelled(modality: str) -> QuerySet[ReferenceProduct]:
    return ReferenceProduct.objects.counted(modality).exclude(category=None)
