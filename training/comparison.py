"""A candidate and the champion on the same products: the test part, and the reference set."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from classifier.artifact import ArtifactError
from classifier.coverage import active_categories
from classifier.models import ModelVersion, ReferenceAnswer, ReferenceProduct
from classifier.paired import PairedFigures, Scored, compare
from classifier.reference_set import Agreement
from classifier.storage import StorageDown
from training import proof, reference_set
from training.evaluate import Probabilities, Targets, ranks
from training.gate import ReferenceComparison, TestComparison

if TYPE_CHECKING:
    from training.corpus import Corpus

log = logging.getLogger(__name__)

Pair = tuple[ReferenceAnswer, ReferenceAnswer]


def on_test(champion: ModelVersion, corpus: "Corpus", fitted: "proof.Fitted") -> TestComparison | None:
    """Compare on the test part; None when the champion can't be loaded: a broken one defends nothing."""
    theirs = proof.answers(champion, corpus, fitted)
    if theirs is None:
        return None
    targets = fitted.test.targets
    known = np.isin(np.array(fitted.labels)[targets], champion.labels or fitted.labels)
    return TestComparison(_scored(theirs, targets), _scored(fitted.test.probabilities, targets), known.tolist())


def on_reference(
    champion: ModelVersion,
    fitted: "proof.Fitted",
    products: Sequence[ReferenceProduct],
    *,
    learnt: Collection[str],
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[ReferenceComparison | None, list[ReferenceAnswer]]:
    """Compare on reference products; return the candidate's answers too, to be kept with it.

    `learnt` are the labels that the new data has. The champion answers anew, so that both saw the same products under
    the same categories. The comparison is None when the champion can't be loaded.
    """
    candidates = reference_set.answers(proof.load(fitted), champion.modality, products, progress)
    try:
        champions = reference_set.measure(champion, products, progress)
    except (ArtifactError, StorageDown) as error:
        log.error("%s can't be compared with: %s", champion, error)
        return None, candidates
    by_product = {answer.product_id: answer for answer in candidates}
    pairs = [(answer, by_product[answer.product_id]) for answer in champions if answer.product_id in by_product]
    return _compare(pairs, known=set(champion.labels), kept=set(fitted.labels) - set(learnt)), candidates


def _compare(pairs: list[Pair], *, known: set[str], kept: set[str]) -> ReferenceComparison:
    """Compare the pairs of champion's and candidate's answers.

    `known` are the champion's labels and `kept` those of the candidate that the new data lacks.
    """
    labelled: defaultdict[str, list[Pair]] = defaultdict(list)
    stored: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair[0].product.category:
            labelled[pair[0].product.category.slug].append(pair)
        else:
            stored[pair[0].first_choice].append(pair)
    names = active_categories()
    lacking = [slug for slug in names if slug in known & kept]
    measured = [slug for slug in lacking if labelled[slug]]
    shown = [pair for slug in lacking if not labelled[slug] for pair in stored[slug]]
    return ReferenceComparison(
        known=_figures([pair for slug in sorted(known) for pair in labelled[slug]]),
        lacking=_figures([pair for slug in measured for pair in labelled[slug]]),
        lacking_categories=measured,
        agreement=Agreement(len(shown), sum(a.first_choice == b.first_choice for a, b in shown)) if shown else None,
        unmeasured=[names[slug] for slug in lacking if not labelled[slug] and not stored[slug]],
    )


def _figures(pairs: list[Pair]) -> PairedFigures | None:
    if not pairs:
        return None
    champion, candidate = (
        Scored.of([answer.rank for answer in side], [answer.probability for answer in side])
        for side in zip(*pairs, strict=True)
    )
    return compare(champion, candidate)


def _scored(probabilities: Probabilities, targets: Targets) -> Scored:
    return Scored.of(ranks(probabilities, targets), probabilities[np.arange(len(targets)), targets])
