"""Compare a candidate with the champion on the same products: the test split and the reference set."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from classifier.evaluation.category_coverage import active_categories
from classifier.evaluation.paired_tests import PairedFigures, ProductScores, compare_paired
from classifier.evaluation.reference_set import Agreement
from classifier.ml.artifact import ArtifactError
from classifier.models import ModelVersion, ReferenceAnswer, ReferenceProduct
from classifier.registry import versions
from training.acceptance import candidate_evaluation, reference_answers
from training.acceptance.gate import LEAST_PRODUCTS, HeldOutComparison, ReferenceComparison
from training.acceptance.metrics import Probabilities, Targets, true_category_ranks

if TYPE_CHECKING:
    from training.datasets.corpus import Corpus

log = logging.getLogger(__name__)

COLLAPSED_SHARE = 0.5  # a category has collapsed if the candidate has less than this share of the champion's accuracy

Pair = tuple[ReferenceAnswer, ReferenceAnswer]


def compare_on_test_split(
    champion: ModelVersion, corpus: "Corpus", fitted: "candidate_evaluation.FittedModel"
) -> HeldOutComparison | None:
    """Compare on the test split. None when the champion's artifact is damaged, so that it can't answer.

    Raises StorageDown, after which the run is tried again.
    """
    theirs = candidate_evaluation.predict_test_split(champion, corpus, fitted)
    if theirs is None:
        return None
    targets = fitted.test.targets
    known = np.isin(np.array(fitted.labels)[targets], versions.read_labels(champion))
    return HeldOutComparison(_scored(theirs, targets), _scored(fitted.test.probabilities, targets), known.tolist())


def compare_on_reference_set(
    champion: ModelVersion,
    fitted: "candidate_evaluation.FittedModel",
    products: Sequence[ReferenceProduct],
    *,
    learnt: Collection[str],
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[ReferenceComparison | None, list[ReferenceAnswer]]:
    """Compare on reference products; return the candidate's answers too, to be stored with it.

    `learnt` are the labels that the new data has. The champion answers now, so that both answer the same products with
    the same active categories. The comparison is None when the champion's artifact is damaged. Raises StorageDown.
    """
    candidates = reference_answers.answer_products(
        candidate_evaluation.load_fitted_model(fitted), champion.modality, products, progress
    )
    try:
        champions = reference_answers.measure_version(champion, products, progress)
    except ArtifactError as error:
        log.error("%s can't be compared with: %s", champion, error)
        return None, candidates
    by_product = {answer.product_id: answer for answer in candidates}
    pairs = [(answer, by_product[answer.product_id]) for answer in champions if answer.product_id in by_product]
    known, own = set(versions.read_labels(champion)), set(fitted.labels)
    return compare_pairs(pairs, known=known, own=own, learnt=set(learnt)), candidates


def compare_pairs(pairs: list[Pair], *, known: set[str], own: set[str], learnt: set[str]) -> ReferenceComparison:
    """Compare the pairs of the champion's and the candidate's answers.

    `known` are the champion's labels, `own` the candidate's, and `learnt` those that the new data has.
    """
    labelled, stored = _group_by_category(pairs)
    names = active_categories()
    compared = [slug for slug in names if slug in known and labelled[slug]]
    lacking = [slug for slug in names if slug in (known & own) - learnt]
    measured = [slug for slug in lacking if labelled[slug]]
    # Where no labelled product shows which version is right, agreement on stored products is all that can be measured.
    agreed_only = [slug for slug in lacking if not labelled[slug] and stored[slug]]
    unmeasured = set(lacking) - {*measured, *agreed_only}
    lacking_pairs = [pair for slug in measured for pair in labelled[slug]]
    agreement_pairs = [pair for slug in agreed_only for pair in stored[slug]]
    if len(lacking_pairs) < LEAST_PRODUCTS:
        unmeasured |= set(measured)
    agreement = None
    if len(agreement_pairs) < LEAST_PRODUCTS:
        unmeasured |= set(agreed_only)
    else:
        agreement = Agreement(len(agreement_pairs), _count_agreed(agreement_pairs))
    collapsed = []
    for slug in compared:
        if slug in own and _has_collapsed(*_accuracies(labelled[slug]), len(labelled[slug])):
            collapsed.append(slug)
    for slug in agreed_only:
        if _has_collapsed(1.0, _share_agreed(stored[slug]), len(stored[slug])):
            collapsed.append(slug)
    return ReferenceComparison(
        known=_paired_figures([pair for slug in compared for pair in labelled[slug]]),
        macro=_macro([_accuracies(labelled[slug]) for slug in compared]),
        lacking=_paired_figures(lacking_pairs),
        lacking_categories=measured,
        agreement=agreement,
        unmeasured=[names[slug] for slug in lacking if slug in unmeasured],
        collapsed=[names[slug] for slug in collapsed],
    )


def _group_by_category(pairs: list[Pair]) -> tuple[defaultdict[str, list[Pair]], defaultdict[str, list[Pair]]]:
    """Return labelled pairs by their category, and stored ones by the champion's first choice."""
    labelled: defaultdict[str, list[Pair]] = defaultdict(list)
    stored: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        champion = pair[0]
        if champion.product.category:
            labelled[champion.product.category.slug].append(pair)
        else:
            stored[champion.first_choice].append(pair)
    return labelled, stored


def _accuracies(pairs: list[Pair]) -> tuple[float, float]:
    """Return the accuracies of the champion and of the candidate."""
    champion = sum(pair[0].rank == 0 for pair in pairs)
    candidate = sum(pair[1].rank == 0 for pair in pairs)
    return champion / len(pairs), candidate / len(pairs)


def _macro(accuracies: list[tuple[float, float]]) -> tuple[float, float]:
    if not accuracies:
        return 0.0, 0.0
    champion, candidate = zip(*accuracies, strict=True)
    return sum(champion) / len(accuracies), sum(candidate) / len(accuracies)


def _count_agreed(pairs: list[Pair]) -> int:
    return sum(champion.first_choice == candidate.first_choice for champion, candidate in pairs)


def _share_agreed(pairs: list[Pair]) -> float:
    return _count_agreed(pairs) / len(pairs)


def _has_collapsed(before: float, after: float, count: int) -> bool:
    return count >= LEAST_PRODUCTS and after < COLLAPSED_SHARE * before


def _paired_figures(pairs: list[Pair]) -> PairedFigures | None:
    if not pairs:
        return None
    champion, candidate = (
        ProductScores.from_ranks([answer.rank for answer in side], [answer.probability for answer in side])
        for side in zip(*pairs, strict=True)
    )
    return compare_paired(champion, candidate)


def _scored(probabilities: Probabilities, targets: Targets) -> ProductScores:
    return ProductScores.from_ranks(
        true_category_ranks(probabilities, targets), probabilities[np.arange(len(targets)), targets]
    )
