"""Measure the text starter on everyday titles that it never learnt, beside a baseline that answers the same titles.

A title counts as right when the first category is one of those acceptable. Titles that fit no category (`?`, `other`)
count among the confident answers alone, where every answer is wrong. See benchmarks/README.md.
"""

import argparse
import io
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.harness.command_line import Figures, Options, run_benchmark
from benchmarks.harness.processes import ROOT
from benchmarks.harness.products import STARTER, data_folder
from benchmarks.harness.report import print_markdown
from classifier.ml.text_model import TextModel

OWN_TITLES = ROOT / "benchmarks" / "everyday" / "titles.tsv"
QUICK_TITLES = 60
NO_CATEGORY = frozenset({"?", "other"})
CONFIDENT = 0.8


@dataclass(frozen=True)
class EverydayTitle:
    """A title, the group of cases it belongs to, and the slugs that are acceptable."""

    group: str
    title: str
    acceptable: frozenset[str]

    @property
    def has_category(self) -> bool:
        return not self.acceptable & NO_CATEGORY


class Answering(Protocol):
    """What answers titles: a text model, or the lexicon."""

    labels: list[str]

    def answer(self, titles: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return probabilities (n, classes)."""


class ModelAnswers:
    """A text model's artifact."""

    def __init__(self, folder: Path) -> None:
        self.model = TextModel.load(folder, device="cpu")
        self.labels = self.model.labels

    def answer(self, titles: Sequence[str]) -> npt.NDArray[np.float32]:
        return self.model.predict_texts(titles, [""] * len(titles)).probabilities


class LexiconAnswers:
    """The lexicon of `training.everyday` alone: the category of the longest noun in a title, the last one first."""

    def __init__(self) -> None:
        from training.everyday import lexicon

        groups = lexicon.english_nouns()
        self.labels = list(groups)
        self.category = {noun.casefold(): slug for slug, nouns in groups.items() for noun in nouns}

    def answer(self, titles: Sequence[str]) -> npt.NDArray[np.float32]:
        probabilities = np.full((len(titles), len(self.labels)), 0.5 / len(self.labels), np.float32)
        for row, title in enumerate(titles):
            slug = self._find(title.casefold().split())
            if slug is not None:
                probabilities[row, self.labels.index(slug)] += 0.5
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return probabilities

    def _find(self, words: Sequence[str]) -> str | None:
        for length in range(min(len(words), 4), 0, -1):
            for start in range(len(words) - length, -1, -1):
                if slug := self.category.get(" ".join(words[start : start + length])):
                    return slug
        return None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the titles, the model and the baseline."""
    parser.add_argument("--titles", type=Path, action="append", help="tab-separated: group, title, acceptable slugs")
    parser.add_argument("--model", type=Path, default=STARTER / "text", help="a text model's artifact")
    parser.add_argument(
        "--baseline", help="another artifact, or a git revision whose text starter answers (default: the lexicon alone)"
    )
    parser.add_argument("--wrong", action="store_true", help="list the titles that the model gets wrong")


def measure_common_sense(options: Options) -> Figures:
    """Return the figures of the model and the baseline on each file of titles."""
    model = ModelAnswers(options.model)
    baseline = open_baseline(options.baseline)
    files = {}
    for path in options.titles or default_files():
        titles = read_titles(path)
        if options.quick:
            titles = titles[:: max(len(titles) // QUICK_TITLES, 1)]
        files[path.parent.name] = {
            "model": measure_answers(model, titles),
            "baseline": measure_answers(baseline, titles),
        }
    return {"files": files, "baseline": options.baseline or "lexicon", "lists_wrong": options.wrong}


def default_files() -> list[Path]:
    """Return the titles that come with Aisle, and those beside the product data where there are any."""
    beside = data_folder().parent / "faults" / "titles.tsv"
    return [path for path in (OWN_TITLES, beside) if path.is_file()]


def read_titles(path: Path) -> list[EverydayTitle]:
    """Return the titles of a tab-separated file."""
    titles = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            group, title, acceptable = line.split("\t")
            titles.append(EverydayTitle(group, title, frozenset(acceptable.split(","))))
    return titles


def open_baseline(name: str | None) -> Answering:
    """Return the baseline: an artifact's folder, the text starter of a git revision, or the lexicon."""
    if name is None:
        return LexiconAnswers()
    if Path(name).is_dir():
        return ModelAnswers(Path(name))
    archive = subprocess.run(
        ["git", "archive", "--format=tar", name, "classifier/starter/text"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        return ModelAnswers(Path(folder) / "classifier/starter/text")


def measure_answers(answering: Answering, titles: Sequence[EverydayTitle]) -> dict[str, Any]:
    """Return top-1 and top-5 accuracy, how many confident answers are wrong, and top-1 by group."""
    probabilities = answering.answer([each.title for each in titles])
    order = np.argsort(-probabilities, axis=1, kind="stable")
    asked, right, right_by_group, in_top5, wrong = Counter[str](), 0, Counter[str](), 0, []
    confident = confident_wrong = 0
    for row, each in enumerate(titles):
        ranked = [answering.labels[column] for column in order[row]]
        is_right = ranked[0] in each.acceptable
        if probabilities[row].max() >= CONFIDENT:
            confident += 1
            confident_wrong += not is_right
        if not each.has_category:
            continue
        asked[each.group] += 1
        right += is_right
        right_by_group[each.group] += is_right
        in_top5 += bool(each.acceptable.intersection(ranked[:5]))
        if not is_right:
            wrong.append(f"{each.title}: {ranked[0]} {probabilities[row].max():.2f}, not {', '.join(each.acceptable)}")
    total = asked.total()
    return {
        "n": total, "accuracy": right / total, "top5": in_top5 / total, "confident": confident,
        "confident_wrong": confident_wrong / max(confident, 1), "wrong": wrong,
        "groups": {group: [right_by_group[group], count] for group, count in asked.items()},
    }  # fmt: skip


def print_report(figures: Figures) -> None:
    """Print a table for each file of titles, shares in per cent, and the accuracy by group."""
    for name, answers in figures["files"].items():
        rows = []
        for who, measured in answers.items():
            shares = [f"{100 * measured[figure]:.1f}" for figure in ("accuracy", "top5", "confident_wrong")]
            label = who if who == "model" else f"baseline: {figures['baseline']}"
            rows.append((label, str(measured["n"]), *shares[:2], str(measured["confident"]), shares[2]))
        print(f"\n### {name}\n")
        print_markdown(("", "titles", "top-1", "top-5", f"at {CONFIDENT} and over", "of these wrong"), rows)
        print()
        groups = []
        for group, (right, asked) in answers["model"]["groups"].items():
            groups.append((group, f"{right} of {asked}", f"{answers['baseline']['groups'][group][0]} of {asked}"))
        print_markdown(("group", "model", "baseline"), groups)
        if figures["lists_wrong"]:
            print("\n" + "\n".join(answers["model"]["wrong"]))


if __name__ == "__main__":
    run_benchmark(
        __doc__, measure_common_sense, print_report=print_report, add_options=add_options,
        quick=f"about {QUICK_TITLES} titles of each file",
    )  # fmt: skip
