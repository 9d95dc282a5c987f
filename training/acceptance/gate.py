"""Decide whether a candidate goes live, is held back for a person, or is rejected, and explain why.

A candidate is compared with the champion on two sets of products: the test split of the data that it was trained on,
and the reference set, which represents all categories of the installation. A candidate that has lost categories, or is
less accurate on categories that the new data lacks, is held back: a person may still deploy it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from classifier.evaluation.category_coverage import Coverage, name_list
from classifier.evaluation.paired_tests import PairedFigures, ProductScores, compare_paired
from classifier.evaluation.reference_set import Agreement
from classifier.models import Decision
from common.formatting import format_percent

SIGNIFICANT = 0.05
MAX_ACCURACY_DROP = 0.01  # against the champion, on the test split
MIN_ACCURACY_SHARE = 0.98  # of the champion's accuracy, on the reference set
MIN_AGREEMENT = 0.8  # with the champion, where no labelled product shows which of them is right
LEAST_PRODUCTS = 10  # with fewer, a share depends more on chance than on the model


@dataclass(frozen=True)
class AcceptanceLimits:
    """What any candidate must reach on the test split."""

    minimum_accuracy: float
    max_latency_ms: float


@dataclass(frozen=True)
class HeldOutComparison:
    """Candidate and champion on the same n test products; `known` (n,): the champion knows the product's category."""

    champion: ProductScores
    candidate: ProductScores
    known: Sequence[bool]


@dataclass(frozen=True)
class ReferenceComparison:
    """Candidate and champion on the same reference products.

    `known`: those whose category the champion knows, and `macro` the mean of the categories' accuracies there, of the
    champion and of the candidate. `lacking`: those of categories that both know and the new data lacks. `agreement`:
    stored products that the champion puts into such a category for which there is no labelled product. `unmeasured`:
    the names of such categories for which there are fewer than `LEAST_PRODUCTS` in all. `collapsed`: the names of
    categories, labelled or stored, of which the candidate gets less than half of what the champion gets.
    """

    known: PairedFigures | None = None
    macro: tuple[float, float] = (0.0, 0.0)
    lacking: PairedFigures | None = None
    lacking_categories: Sequence[str] = ()
    agreement: Agreement | None = None
    unmeasured: Sequence[str] = ()
    collapsed: Sequence[str] = ()


@dataclass(frozen=True)
class Verdict:
    """The decision about a candidate: sentences with figures, the most serious first, and the figures for its row."""

    decision: Decision
    reasons: list[str]
    record: dict[str, Any] = field(default_factory=dict)


def decide_on_candidate(
    metrics: Mapping[str, Any],
    limits: AcceptanceLimits,
    *,
    coverage: Coverage,
    test: HeldOutComparison | None = None,
    reference: ReferenceComparison | None = None,
) -> Verdict:
    """Decide about a candidate, given its metrics on the test split.

    It is rejected when its accuracy or latency misses the limits, or when it is worse than the champion on the test
    products whose category the champion knows: significantly less often right (McNemar's one-sided mid-p below 0.05),
    more than 1 point of accuracy behind, or with a log-loss whose difference has a paired bootstrap interval (95 %)
    wholly above 0.

    It is held back when it loses active categories that live versions suggest; when it is significantly less often
    right on the reference set, or keeps less than 98 % of the champion's accuracy there, over all products, in the mean
    of the categories, or on categories that the new data lacks; when it gets less than half of what the champion gets
    of a single category; when it agrees with the champion on less than 80 % of stored products where no labelled ones
    measure; and when fewer than 10 products measure categories that the new data lacks.

    Without a champion (`test` and `reference` are None) only the limits count.
    """
    failures, holds, remarks = _Sentences(), _Sentences(), _Sentences()
    record: dict[str, Any] = {"coverage": coverage.to_json()}
    _check_limits(metrics, limits, failures, remarks)
    _check_coverage(coverage, holds, remarks)
    if test is not None:
        record |= _check_test(test, failures, remarks)
    if reference is not None:
        record |= _check_reference(reference, holds, remarks)
    decision = Decision.PASSED
    if holds:
        decision = Decision.HELD
    # A rejected version can never be deployed, so a failure outweighs what would only hold it back.
    if failures:
        decision = Decision.REJECTED
    if decision == Decision.HELD:
        holds.append(_("It doesn't go live automatically; a person may deploy it."))
    return Verdict(decision, [*failures, *holds, *remarks], {"decision": decision, **record})


_Sentences = list[str]


def _check_limits(
    metrics: Mapping[str, Any], limits: AcceptanceLimits, failures: _Sentences, remarks: _Sentences
) -> None:
    figures = {
        "accuracy": _percent(metrics["accuracy"]),
        "least": _percent(limits.minimum_accuracy),
        "n": metrics["n"],
        "ms": f"{metrics['latency_ms']:.0f}",
        "most": f"{limits.max_latency_ms:.0f}",
    }
    if metrics["accuracy"] >= limits.minimum_accuracy:
        remarks.append(_("Accuracy %(accuracy)s on %(n)d test products; at least %(least)s is required.") % figures)
    else:
        failures.append(_("Accuracy %(accuracy)s on %(n)d test products is below the required %(least)s.") % figures)
    if metrics["latency_ms"] <= limits.max_latency_ms:
        remarks.append(_("%(ms)s ms for one product; at most %(most)s ms is required.") % figures)
    else:
        failures.append(_("%(ms)s ms for one product is more than the allowed %(most)s ms.") % figures)


def _check_coverage(coverage: Coverage, holds: _Sentences, remarks: _Sentences) -> None:
    if coverage.lost:
        holds.append(
            _(
                "It can't suggest %(count)d categories that the champion suggests: %(names)s. Train with products of "
                "them, or continue from the live model (--from champion) to keep them."
            )
            % {"count": len(coverage.lost), "names": name_list(coverage.lost.values())}
        )
    remarks.append(_("It suggests %(coverage)s.") % {"coverage": coverage})
    if new := [name for slug, name in coverage.missing.items() if slug not in coverage.lost]:
        remarks.append(_("Neither it nor the champion suggests %(names)s.") % {"names": name_list(new)})


def _check_test(test: HeldOutComparison, failures: _Sentences, remarks: _Sentences) -> dict[str, Any]:
    record: dict[str, Any] = {}
    new = [row for row, known in enumerate(test.known) if not known]
    old = [row for row, known in enumerate(test.known) if known]
    if old:
        found = compare_paired(test.champion.select(old), test.candidate.select(old))
        record["test"] = found.to_json()
        worse = [
            why
            for holds, why in (
                (found.p_worse < SIGNIFICANT, _("significantly less often right")),
                (found.accuracy.difference < -MAX_ACCURACY_DROP, _("more than 1 point less accurate")),
                (found.log_loss.low > 0, _("clearly higher log-loss")),
            )
            if holds
        ]
        measured = _("Against the champion on the same %(n)d test products: %(figures)s") % {
            "n": found.n,
            "figures": _describe_figures(found),
        }
        if worse:
            failures.append(_("%(measured)s: worse, by %(why)s.") % {"measured": measured, "why": ", ".join(worse)})
        else:
            remarks.append(_("%(measured)s: not worse.") % {"measured": measured})
    if new:
        accuracy = float(test.candidate.select(new).correct.mean())
        record["new"] = {"n": len(new), "accuracy": accuracy}
        remarks.append(
            _("On %(n)d test products of categories that the champion doesn't know it is right on %(accuracy)s.")
            % {"n": len(new), "accuracy": _percent(accuracy)}
        )
    return record


def _check_reference(reference: ReferenceComparison, holds: _Sentences, remarks: _Sentences) -> dict[str, Any]:
    record: dict[str, Any] = {"unmeasured": list(reference.unmeasured), "collapsed": list(reference.collapsed)}
    if reference.collapsed:
        holds.append(
            _("It has unlearnt %(names)s: it gets less than half right of what the champion does.")
            % {"names": name_list(reference.collapsed)}
        )
    if known := reference.known:
        record |= {"reference": known.to_json(), "macro": list(reference.macro)}
        measured = _(
            "On the same %(n)d reference products: %(figures)s, the mean of the categories' accuracies from %(before)s "
            "to %(after)s"
        ) % {
            "n": known.n,
            "figures": _describe_figures(known),
            "before": _percent(reference.macro[0]),
            "after": _percent(reference.macro[1]),
        }
        if _is_forgetful(known) or (known.n >= LEAST_PRODUCTS and _has_fallen(*reference.macro)):
            holds.append(_("%(measured)s: it is less accurate than the champion.") % {"measured": measured})
        else:
            remarks.append(f"{measured}.")
    if lacking := reference.lacking:
        record["lacking"] = {**lacking.to_json(), "categories": list(reference.lacking_categories)}
        figures = {
            "n": lacking.n,
            "count": len(reference.lacking_categories),
            "before": _percent(lacking.accuracy.first),
            "after": _percent(lacking.accuracy.second),
        }
        if _is_forgetful(lacking):
            holds.append(
                _(
                    "It has forgotten: on %(n)d reference products of the %(count)d categories that the new data "
                    "lacks, accuracy goes from %(before)s to %(after)s."
                )
                % figures
            )
        else:
            remarks.append(
                _(
                    "It keeps what the new data lacks: on %(n)d reference products of %(count)d categories, accuracy "
                    "goes from %(before)s to %(after)s."
                )
                % figures
            )
    if agreement := reference.agreement:
        record["agreement"] = {"n": agreement.n, "agreed": agreement.agreed}
        sentence = _(
            "It agrees with the champion on %(agreed)d of %(n)d stored products of categories without labelled ones."
        ) % {"agreed": agreement.agreed, "n": agreement.n}
        (holds if agreement.share < MIN_AGREEMENT else remarks).append(sentence)
    if reference.unmeasured:
        holds.append(
            _("The new data lacks %(names)s, and too few products measure whether it still knows them.")
            % {"names": name_list(reference.unmeasured)}
        )
    return record


def _is_forgetful(found: PairedFigures) -> bool:
    return found.p_worse < SIGNIFICANT or (
        found.n >= LEAST_PRODUCTS and _has_fallen(found.accuracy.first, found.accuracy.second)
    )


def _has_fallen(before: float, after: float) -> bool:
    return after < MIN_ACCURACY_SHARE * before


def _describe_figures(found: PairedFigures) -> str:
    figures = {
        "points": f"{100 * found.accuracy.difference:+.1f}",
        "low": f"{100 * found.accuracy.low:+.1f}",
        "high": f"{100 * found.accuracy.high:+.1f}",
        "lost": found.lost,
        "won": found.won,
        "p": f"{found.p_worse:.3f}",
        "loss": f"{found.log_loss.difference:+.3f}",
        "loss_low": f"{found.log_loss.low:+.3f}",
        "loss_high": f"{found.log_loss.high:+.3f}",
    }
    return (
        _(
            "accuracy %(points)s points (95%% interval %(low)s to %(high)s), %(won)d products won and %(lost)d lost "
            "(McNemar's one-sided mid-p for worse: %(p)s), log-loss %(loss)s (95%% interval %(loss_low)s to "
            "%(loss_high)s)"
        )
        % figures
    )


def _percent(share: float) -> str:
    return format_percent(share, 1)
