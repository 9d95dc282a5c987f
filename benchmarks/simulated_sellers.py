"""Simulate sellers who answer for real products: honest, confused, lying."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.harness.starter_answers import StarterAnswers

HONEST, RANDOM, RUNNER_UP, ONE_PAIR, LIAR = "honest", "random", "runner-up", "one pair", "liar"
CONFUSED = (RANDOM, RUNNER_UP, ONE_PAIR)
MISTAKES = (0.05, 0.20)  # shares of wrong answers of confused sellers
LEAST_SHELF = 40  # products: a category with fewer has nothing to fill a seller's shelf with


@dataclass(frozen=True)
class Scenario:
    """`liars`, `confused`: shares of the sellers. `lies`: of a liar's products, after `honest_first` honest ones.

    With `groups` 0 each liar has an own favourite category, else liars form so many groups with one favourite each.
    `otherwise`: the share of the sellers that honestly keep one category's goods in another category.
    """

    sellers: int = 200
    products: int = 200
    liars: float = 0.10
    confused: float = 0.15
    lies: float = 0.20
    honest_first: int = 0
    groups: int = 0
    otherwise: float = 0.0


@dataclass(frozen=True)
class Market:
    """What each seller (sellers,) is, and the products and answers in their order (sellers, products)."""

    kind: npt.NDArray[np.str_]
    product: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64]


def simulate(scenario: Scenario, starters: StarterAnswers, rng: np.random.Generator) -> Market:
    """Return what sellers, each with an own mix of categories, answer.

    Who is honest chooses the source's own label. Who is confused is wrong in 5 to 20 % of the products: anywhere at
    random; or what the models hold for second likeliest; or, in the category of most of their goods, always in the one
    category that it is taken for most often.
    """
    size, classes = (scenario.sellers, scenario.products), len(starters.labels)
    liars, confused = round(scenario.liars * size[0]), round(scenario.confused * size[0])
    mistaken = [CONFUSED[number % len(CONFUSED)] for number in range(confused)]
    kind = np.array([LIAR] * liars + mistaken + [HONEST] * (size[0] - liars - confused))
    product = stock(size, starters, rng)
    chosen = starters.truth[product]
    best, second = np.argsort(-starters.ensemble, axis=1)[:, :2].T
    likeliest_other = np.where(best == starters.truth, second, best)
    shared = rng.permutation(classes)
    for seller, goods in enumerate(product):
        truth = starters.truth[goods]
        home = np.bincount(truth).argmax()
        wrong = rng.random(size[1]) < rng.uniform(*MISTAKES)
        if kind[seller] == RANDOM:
            chosen[seller] = np.where(wrong, rng.integers(0, classes, size[1]), truth)
        elif kind[seller] == RUNNER_UP:
            chosen[seller] = np.where(wrong, likeliest_other[goods], truth)
        elif kind[seller] == ONE_PAIR:
            taken_for = np.bincount(likeliest_other[starters.truth == home], minlength=classes).argmax()
            chosen[seller] = np.where(wrong & (truth == home), taken_for, truth)
        elif kind[seller] == LIAR:
            # No seller lies into the category of most of their own goods: that would be the truth.
            favourites = shared[: scenario.groups + 1] if scenario.groups else rng.permutation(classes)
            favourite = favourites[favourites != home][seller % max(scenario.groups, 1)]
            lie = (rng.random(size[1]) < scenario.lies) & (np.arange(size[1]) >= scenario.honest_first)
            chosen[seller] = np.where(lie, favourite, truth)
    moved = rng.random(size[0]) < scenario.otherwise
    one, other = shared[np.isin(shared, starters.truth)][:2]
    chosen[moved] = np.where(starters.truth[product[moved]] == one, other, chosen[moved])
    return Market(kind, product, chosen)


def stock(size: tuple[int, int], starters: StarterAnswers, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return each seller's products (sellers, products): two to four categories make up most of them (Dirichlet, 0.2).

    No product twice: one that the source keeps in a wrong category would look like a habit.
    """
    shelves = np.bincount(starters.truth)
    pool = np.flatnonzero(shelves[starters.truth] >= LEAST_SHELF)
    stocked, shelf = np.unique(starters.truth[pool], return_inverse=True)
    mixes = rng.dirichlet(np.full(len(stocked), 0.2), size[0]) + 1e-6
    odds = mixes[:, shelf] / shelves[stocked][shelf]
    return np.stack([rng.choice(pool, size[1], replace=False, p=each / each.sum()) for each in odds])
