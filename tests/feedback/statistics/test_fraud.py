from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feedback.statistics.fraud import (
    ABOVE_PEERS,
    ALONE,
    GROUP,
    ONE_CATEGORY,
    AnswerLog,
    FraudFindings,
    SellerFinding,
    SellerTotals,
    add_answers,
    assess_sellers,
)
from feedback.statistics.fraud.detection import e_values_to_q_values, estimate_prior_strength

CATEGORIES = 18


def log_of(
    seller: Any, predicted: Any, chosen: Any, *, confidence: float = 0.97, day: float = 0, version: Any = 0
) -> AnswerLog:
    """Return answers on which both models agree; a choice other than the prediction is very improbable."""
    columns = np.broadcast_arrays(seller, predicted, chosen, version)
    seller, predicted, chosen, version = (np.atleast_1d(column).astype(np.int64) for column in columns)
    sure = np.full(len(seller), confidence)
    p = np.where(chosen == predicted, sure, (1 - sure) / 100)
    return AnswerLog(
        seller=seller, version=version, predicted=predicted, chosen=chosen, text_top=predicted, image_top=predicted,
        confidence=sure, text_probability=p, image_probability=p, ensemble_probability=p,
        answered_at=np.full(len(seller), day * 86_400.0),
    )  # fmt: skip


def join(*logs: AnswerLog) -> AnswerLog:
    return AnswerLog(**{name: np.concatenate([getattr(log, name) for log in logs]) for name in vars(logs[0])})


def honest(rng: np.random.Generator, sellers: range, products: int = 100, slips: float = 0.01) -> AnswerLog:
    seller = np.repeat(np.arange(sellers.start, sellers.stop), products)
    predicted = rng.integers(0, 6, len(seller))
    chosen = np.where(rng.random(len(seller)) < slips, rng.integers(0, CATEGORIES, len(seller)), predicted)
    return log_of(seller, predicted, chosen)


def lying(rng: np.random.Generator, sellers: range, favourite: int, lies: float, products: int = 100) -> AnswerLog:
    log = honest(rng, sellers, products)
    return log_of(log.seller, log.predicted, np.where(rng.random(len(log)) < lies, favourite, log.chosen))


def assessed(*logs: AnswerLog, **options: Any) -> dict[int, SellerFinding]:
    return {
        finding.seller: finding
        for finding in assess_sellers(add_answers(SellerTotals.empty(), join(*logs), **options), CATEGORIES).findings
    }


def flagged(*logs: AnswerLog) -> set[int]:
    return {seller for seller, finding in assessed(*logs).items() if finding.flagged}


def test_only_sellers_who_lie_into_one_category_are_flagged() -> None:
    rng = np.random.default_rng(1)
    found = assessed(honest(rng, range(40)), lying(rng, range(40, 42), favourite=9, lies=0.2))
    assert {seller for seller, finding in found.items() if finding.flagged} == {40, 41}
    liar = found[40]
    assert (liar.favourite, liar.products, liar.sure) == (9, 100, 100)
    assert liar.rate == liar.evidence / liar.chances > 0.1 > liar.allowed_rate > liar.peers_rate > 0
    assert liar.peers_rate < liar.shrunk_rate <= liar.rate
    assert liar.posterior > 0.99 and liar.q < 0.05 and liar.concentration > 0.8
    assert liar.reasons == (ABOVE_PEERS, ONE_CATEGORY, GROUP)
    assert ALONE in assessed(honest(rng, range(40)), lying(rng, range(40, 41), favourite=9, lies=0.2))[40].reasons


def test_one_of_one_never_outranks_300_of_1000() -> None:
    rng = np.random.default_rng(2)
    many = log_of(100, np.arange(1000) % 6, np.where(np.arange(1000) % 10 < 3, 9, np.arange(1000) % 6))
    result = assess_sellers(
        add_answers(SellerTotals.empty(), join(honest(rng, range(30)), many, log_of(101, 2, 9))), CATEGORIES
    )
    order = [finding.seller for finding in result.findings]
    one, thousand = (next(f for f in result.findings if f.seller == seller) for seller in (101, 100))
    assert one.rate == 1.0 > thousand.rate
    assert order[0] == 100 and result.flagged == [100]
    assert thousand.shrunk_rate > one.shrunk_rate and thousand.posterior > one.posterior


def test_scattered_errors_flag_no_one() -> None:
    rng = np.random.default_rng(3)
    confused = honest(rng, range(50, 60), products=200, slips=0.2)
    assert flagged(honest(rng, range(50)), confused) == set()
    assert assessed(honest(rng, range(50)), confused)[50].surprising > 15


def test_what_most_sellers_of_a_category_do_flags_no_one() -> None:
    rng = np.random.default_rng(4)
    crowd = honest(rng, range(40))
    moved = (crowd.predicted == 3) & (crowd.seller % 10 < 7)
    otherwise = log_of(crowd.seller, crowd.predicted, np.where(moved, 12, crowd.chosen))
    assert flagged(otherwise) == set()
    few = (crowd.predicted == 3) & (crowd.seller < 4)
    assert flagged(log_of(crowd.seller, crowd.predicted, np.where(few, 12, crowd.chosen))) == {0, 1, 2, 3}


def test_errors_of_a_new_version_flag_no_one() -> None:
    rng = np.random.default_rng(5)
    old = honest(rng, range(40), products=200)
    new = honest(rng, range(40), products=20)
    wrong = np.where(new.predicted == 3, 12, new.chosen)
    assert flagged(old, log_of(new.seller, new.predicted, wrong, version=1)) == set()


@pytest.mark.parametrize("liars", [5, 12])
def test_a_group_with_the_same_lie_is_flagged(liars: int) -> None:
    rng = np.random.default_rng(6)
    group = range(40, 40 + liars)
    found = flagged(honest(rng, range(40)), lying(rng, group, favourite=9, lies=0.3))
    assert found <= set(group) and len(found) >= 0.9 * liars


def test_a_likely_second_a_single_model_and_low_confidence_are_no_evidence() -> None:
    rng = np.random.default_rng(7)
    crowd, lies = honest(rng, range(40)), lying(rng, range(40, 41), favourite=9, lies=0.3)
    assert flagged(crowd, lies) == {40}
    for doubtful in (
        replace(lies, ensemble_probability=np.where(lies.chosen == 9, 0.02, lies.ensemble_probability)),
        replace(lies, image_top=np.full(len(lies), -1)),
        replace(lies, image_top=lies.predicted + 1),
        replace(lies, confidence=np.full(len(lies), 0.7)),
        replace(lies, text_probability=np.where(lies.chosen == 9, 0.3, lies.text_probability)),
    ):
        assert flagged(crowd, doubtful) == set()


def test_cleared_answers_do_not_flag_again_but_new_ones_do() -> None:
    rng = np.random.default_rng(8)
    crowd = honest(rng, range(40))
    first = lying(rng, range(40, 41), favourite=9, lies=0.2)
    assert flagged(crowd, first) == {40}
    totals = add_answers(SellerTotals.empty(), join(crowd, first))
    assert assess_sellers(totals.without_seller(40), CATEGORIES).flagged == []
    cleared = {40: 86_400.0}
    assert assess_sellers(add_answers(SellerTotals.empty(), join(crowd, first), cleared), CATEGORIES).flagged == []
    again = replace(lying(rng, range(40, 41), favourite=9, lies=0.2), answered_at=np.full(100, 2 * 86_400.0))
    assert assess_sellers(add_answers(totals.without_seller(40), again, cleared), CATEGORIES).flagged == [40]
    assert assess_sellers(add_answers(totals.without_seller(40), first, cleared), CATEGORIES).flagged == []


def test_adding_day_by_day_gives_the_same_totals_as_at_once() -> None:
    rng = np.random.default_rng(9)
    log = join(honest(rng, range(20)), lying(rng, range(20, 22), favourite=9, lies=0.2))
    days = np.array_split(rng.permutation(len(log)), 7)
    totals = SellerTotals.empty()
    for day in days:
        totals = add_answers(totals, log.select(day))
    whole = add_answers(SellerTotals.empty(), log)
    assert (totals.keys == whole.keys).all() and (totals.count == whole.count).all()
    assert totals.surprisal == pytest.approx(whole.surprisal)
    assert len(add_answers(whole, log).keys) == len(whole.keys) < len(log) / 4


def test_the_strongest_evidence_is_the_lies() -> None:
    rng = np.random.default_rng(10)
    log = join(honest(rng, range(40)), lying(rng, range(40, 41), favourite=9, lies=0.2))
    log = join(log, log_of(40, 2, 5, confidence=0.999))
    result = assess_sellers(add_answers(SellerTotals.empty(), log), CATEGORIES)
    liar = result.findings[0]
    rows = result.strongest_evidence(log, liar, most=200)
    assert len(rows) == liar.surprising > liar.evidence and len(log) - 1 in rows[liar.evidence :]
    assert {(int(log.seller[row]), int(log.chosen[row])) for row in rows[: liar.evidence]} == {(40, 9)}
    assert result.strongest_evidence(log, liar, most=3) == rows[:3]
    assert result.strongest_evidence(log, replace(liar, seller=999)) == []


PROBABILITIES = ("text_probability", "image_probability", "ensemble_probability")
NINE = log_of(np.arange(9), 3, 9)


@pytest.mark.parametrize(
    "log",
    [
        NINE.select(np.zeros(9, bool)),
        log_of(0, 3, 3),
        log_of(0, 3, 9),
        log_of(0, np.zeros(50), np.full(50, 9)),
        log_of(np.arange(50), np.zeros(50), np.full(50, 9)),
        log_of(np.repeat(np.arange(50), 4), 3, 3),
        replace(NINE, **dict.fromkeys(PROBABILITIES, np.full(9, np.nan))),
        replace(NINE, confidence=np.full(9, np.nan)),
        replace(NINE, confidence=np.ones(9), **dict.fromkeys(PROBABILITIES, np.zeros(9))),
    ],
)  # fmt: skip
def test_too_few_answers_flag_no_one_and_give_finite_figures(log: AnswerLog) -> None:
    with np.errstate(all="raise", under="ignore"):
        result = assess_sellers(add_answers(SellerTotals.empty(), log), CATEGORIES)
    assert isinstance(result, FraudFindings) and result.flagged == []
    assert bool(result.findings) == bool(len(log))
    for finding in result.findings:
        figures = [
            value for name, value in vars(finding).items() if name != "log_evidence" and isinstance(value, float)
        ]
        assert np.isfinite(figures).all() and not np.isnan(finding.log_evidence)


def test_a_market_of_two_categories_or_one_is_assessed() -> None:
    for categories in (1, 2):
        totals = add_answers(SellerTotals.empty(), log_of(np.arange(40) % 20, 0, np.arange(40) % categories))
        assert assess_sellers(totals, categories).flagged == []


def test_a_category_outside_the_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="not among 9"):
        assess_sellers(add_answers(SellerTotals.empty(), log_of(0, 3, 9)), 9)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        replace(log_of([0, 1], 3, 3), chosen=np.array([3]))


def test_q_values_are_the_levels_of_e_bh() -> None:
    # m = 4: 4/(1*100), 4/(2*40), 4/(3*1) and 4/(4*0.5), each the smallest from its own rank on, at most 1.
    assert e_values_to_q_values(np.log([1, 100, 0.5, 40])) == pytest.approx([1, 0.04, 1, 0.05])
    assert e_values_to_q_values(np.log([10, 100])).tolist() == pytest.approx([0.1, 0.02])
    assert e_values_to_q_values(np.array([-np.inf, 1e4])).tolist() == [1.0, 0.0]
    assert e_values_to_q_values(np.empty(0)).size == 0


def test_the_prior_strength_is_recovered_from_simulated_sellers() -> None:
    rng = np.random.default_rng(11)
    chances = np.full(20_000, 60.0)
    for strength in (20.0, 100.0):
        events = rng.binomial(60, rng.beta(strength * 0.1, strength * 0.9, len(chances)))
        assert estimate_prior_strength(events.astype(float), chances) == pytest.approx(strength, rel=0.5)
    assert estimate_prior_strength(np.full(50, 6.0), np.full(50, 60.0)) == 500.0
    assert estimate_prior_strength(np.zeros(0), np.zeros(0)) == 500.0


def test_assessing_every_day_flags_no_honest_seller() -> None:
    rng = np.random.default_rng(12)
    found: set[int] = set()
    totals = SellerTotals.empty()
    for _day in range(30):
        totals = add_answers(totals, honest(rng, range(100), products=10, slips=0.05))
        found |= set(assess_sellers(totals, CATEGORIES).flagged)
    assert found == set()
