"""How two model versions compare on the reference products that both have answered."""

from dataclasses import dataclass

from django.db.models import QuerySet
from scipy import stats

from classifier.models import ModelVersion, ReferenceAnswer, ReferenceProduct
from classifier.paired import PairedFigures, Scored, compare


@dataclass(frozen=True)
class Agreement:
    """On how many of n stored products, whose category nobody confirmed, two versions make the same first choice."""

    n: int
    agreed: int

    @property
    def share(self) -> float:
        return self.agreed / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of Wilson 1927."""
        found = stats.binomtest(self.agreed, self.n).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def compare_on_reference(first: ModelVersion, second: ModelVersion) -> PairedFigures | None:
    """Return how two versions of one modality do on the labelled products that both answered, or None without any."""
    answers = [_answers(version) for version in (first, second)]
    common = sorted(set(answers[0]) & set(answers[1]))
    if not common:
        return None
    scored = [Scored.of(*zip(*(found[product] for product in common), strict=True)) for found in answers]
    return compare(*scored)


def measured(version: ModelVersion) -> int:
    """Return how many of the products that count for its modality the version has answered."""
    return ReferenceAnswer.objects.filter(version=version, product__in=_counted(version)).count()


def _answers(version: ModelVersion) -> dict[int, tuple[int, float]]:
    """Return the rank and the probability of each product's category."""
    labelled = _counted(version).exclude(category=None)
    rows = ReferenceAnswer.objects.filter(version=version, product__in=labelled).exclude(rank=None)
    found = rows.values_list("product", "rank", "probability")
    return {product: (rank or 0, chance or 0.0) for product, rank, chance in found}


def _counted(version: ModelVersion) -> QuerySet[ReferenceProduct]:
    return ReferenceProduct.objects.counted(version.modality)
