"""Measure how many lying sellers are found, how soon, and who else is flagged, with simulated sellers.

Every seller answers ten products, everybody is judged, and so on: a flag at any look counts for good. Each row of the
table is a market of 200 sellers, drawn again for each repetition. See benchmarks/README.md.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.products import data_folder
from benchmarks.harness.progress import track_progress
from benchmarks.harness.report import print_markdown
from benchmarks.harness.starter_answers import StarterAnswers, made_up_answers, starter_answers
from benchmarks.simulated_sellers import CONFUSED, LIAR, Market, Scenario, simulate
from feedback.statistics.fraud import AnswerLog, SellerTotals, add_answers, assess_sellers
from feedback.statistics.proportions import Proportion

STEP = 10  # products of each seller between two looks
SEED = 20_261_122
RANKS = (1, 2, 3, 5)
BAR = "the bar: 10 % liars, 20 % lies"
SCENARIOS = {
    BAR: Scenario(),
    "5 % lies": Scenario(lies=0.05),
    "10 % lies": Scenario(lies=0.10),
    "50 % lies": Scenario(lies=0.50),
    "slow starters: honest for 100 products": Scenario(honest_first=100),
    "slow starters, 400 products": Scenario(honest_first=100, products=400),
    "four colluding groups": Scenario(groups=4),
    "one colluding group of 10 %": Scenario(groups=1),
    "one colluding group of 30 %": Scenario(groups=1, liars=0.30),
    "no liars": Scenario(liars=0),
    "no liars, half of the sellers confused": Scenario(liars=0, confused=0.50),
    "no liars, a category that 7 in 10 sellers use otherwise": Scenario(liars=0, otherwise=0.7),
}


@dataclass(frozen=True)
class Outcome:
    """Of all repetitions. `after` (liars,): products from the first possible lie to the flag, inf for none."""

    liars: Proportion
    right: Proportion
    confused: Proportion
    honest: Proportion
    after: npt.NDArray[np.float64]
    baseline: tuple[Proportion, Proportion]

    def figures(self) -> dict[str, Any]:
        shares = {
            "recall": self.liars, "precision": self.right, "honest_flagged": self.confused,
            "plain_honest_flagged": self.honest, "baseline_recall": self.baseline[0],
            "baseline_precision": self.baseline[1],
        }  # fmt: skip
        found: dict[str, Any] = {}
        for name, share in shares.items():
            found[name] = share.value if share.total else None
            found[f"{name}_interval"] = share.interval() if share.total else None
        median = float(np.median(self.after)) if len(self.after) else np.inf
        return found | {"median_products_to_flag": median if np.isfinite(median) else None}


def measure_fraud(options: Options) -> Figures:
    """Return recall and precision of the detection in each simulated market."""
    known = starter_answers(options.data) if options.data.is_dir() else made_up_answers()
    repetitions = options.repetitions or (5 if options.quick else 100)
    scenarios: dict[str, Figures] = {}
    for number, (name, scenario) in enumerate(SCENARIOS.items()):
        times = repetitions if name == BAR else max(repetitions // 4, 2)
        outcome = repeat_scenario(scenario, known, times, number, name)
        scenarios[name] = outcome.figures() | {"row": table_row(outcome)}
    rows = {name: found.pop("row") for name, found in scenarios.items()}
    setting = {"products": known.source, "repetitions": repetitions, "scenario": asdict(Scenario())}
    return scenarios[BAR] | {"scenarios": scenarios, "rows": rows, "product_count": len(known.truth)} | setting


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --data and --repetitions."""
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--repetitions", type=int, help="of the first market; the others have a quarter")


def print_report(figures: Figures) -> None:
    """Print a row for each simulated market."""
    print(f"{figures['product_count']} {figures['products']} products\n")
    header = (
        "market", "recall", "precision", "confused flagged", "honest flagged", "median products to flag",
        "baseline recall", "baseline precision",
    )  # fmt: skip
    print_markdown(header, [(name, *cells) for name, cells in figures["rows"].items()])


def table_row(outcome: Outcome) -> list[str]:
    median = outcome.figures()["median_products_to_flag"]
    time = "-" if not len(outcome.after) else "never" if median is None else f"{median:.0f}"
    recall, precision, confused, honest, *baseline = map(
        format_share, (outcome.liars, outcome.right, outcome.confused, outcome.honest, *outcome.baseline)
    )
    return [recall, precision, confused, honest, time, *baseline]


def format_share(share: Proportion) -> str:
    if not share.total:
        return "-"
    low, high = share.interval()
    return f"{100 * share.value:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def repeat_scenario(scenario: Scenario, starters: StarterAnswers, repetitions: int, number: int, name: str) -> Outcome:
    kinds, afters, ranks = [], [], []
    for repetition in track_progress(range(repetitions), name):
        market = simulate(scenario, starters, np.random.default_rng([SEED, number, repetition]))
        kinds.append(market.kind)
        afters.append(watch(market, starters))
        ranks.append(low_picks(market, starters))
    kind, after = np.concatenate(kinds), np.concatenate(afters)
    liar, confused, flagged = kind == LIAR, np.isin(kind, CONFUSED), np.isfinite(after)
    return Outcome(
        liars=count(flagged, liar),
        right=count(liar, flagged),
        confused=count(flagged, confused),
        honest=count(flagged, ~liar & ~confused),
        after=after[liar] - scenario.honest_first,
        baseline=baseline(np.concatenate(ranks), liar),
    )


def count(events: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Proportion:
    return Proportion(int((events & among).sum()), int(among.sum()))


def watch(market: Market, starters: StarterAnswers) -> npt.NDArray[np.float64]:
    """Return after how many products each seller was first flagged (sellers,), inf for never."""
    after = np.full(len(market.kind), np.inf)
    tally = SellerTotals.empty()
    for stop in range(STEP, market.product.shape[1] + 1, STEP):
        tally = add_answers(tally, to_log(market, starters, stop - STEP, stop))
        flagged = assess_sellers(tally, len(starters.labels)).flagged
        after[flagged] = np.minimum(after[flagged], stop)
    return after


def to_log(market: Market, starters: StarterAnswers, start: int, stop: int) -> AnswerLog:
    """Return the answers of all sellers to their products from `start` to before `stop`, one product a day."""
    goods, chosen = (column[:, start:stop].ravel() for column in (market.product, market.chosen))
    sellers = len(market.kind)
    return AnswerLog(
        seller=np.repeat(np.arange(sellers), stop - start),
        version=np.zeros(len(goods), np.int64),
        predicted=starters.ensemble[goods].argmax(axis=1),
        chosen=chosen,
        text_top=starters.text[goods].argmax(axis=1),
        image_top=starters.image[goods].argmax(axis=1),
        confidence=starters.ensemble[goods].max(axis=1).astype(np.float64),
        text_probability=starters.text[goods, chosen].astype(np.float64),
        image_probability=starters.image[goods, chosen].astype(np.float64),
        ensemble_probability=starters.ensemble[goods, chosen].astype(np.float64),
        answered_at=np.tile(np.arange(start, stop) * 86_400.0, sellers),
    )


def low_picks(market: Market, starters: StarterAnswers) -> npt.NDArray[np.float64]:
    """Return each seller's share of picks below each of `RANKS` (sellers, ranks), after all products."""
    of_chosen = np.take_along_axis(starters.ensemble[market.product], market.chosen[:, :, None], axis=2)
    rank = 1 + (starters.ensemble[market.product] > of_chosen).sum(axis=2)
    return np.stack([(rank > limit).mean(axis=1) for limit in RANKS], axis=1)


def baseline(low: npt.NDArray[np.float64], liar: npt.NDArray[np.bool_]) -> tuple[Proportion, Proportion]:
    """Return recall and precision of "share of low picks above a threshold", rank and threshold by the best F1.

    Chosen with the truth at hand, and looking once, at the end: better than anyone could do with it.
    """
    best: tuple[float, Proportion, Proportion] = (-1.0, Proportion(0, 0), Proportion(0, 0))
    for column in low.T:
        for threshold in np.unique(column):
            recall, precision = count(column >= threshold, liar), count(liar, column >= threshold)
            f1 = 2 * recall.count / (recall.total + precision.total) if recall.total else -1.0
            best = max(best, (f1, recall, precision), key=lambda found: found[0])
    return best[1:]


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_fraud, print_report=print_report, add_options=add_options,
        quick="5 repetitions: under a minute",
    )  # fmt: skip
