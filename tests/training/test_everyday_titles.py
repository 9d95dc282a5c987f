"""Everyday titles: the lexicon, the titles generated from it, and the rows that a fit learns from them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from classifier import services
from tests.support import fitting
from training.everyday import lexicon, texts
from training.fit.everyday_rows import EVERYDAY, add_everyday_titles
from training.fit.job import Job, read_tables

ROOT = Path(__file__).parents[2]
OWN_TITLES = ROOT / "benchmarks" / "everyday" / "titles.tsv"
OTHER_TITLES = ROOT.parent / "shared" / "faults" / "titles.tsv"


@pytest.fixture(scope="module")
def titles() -> list[texts.LabelledTitle]:
    return texts.everyday_titles()


def test_the_lexicon_has_thousands_of_nouns_for_exactly_the_categories_of_aisle() -> None:
    slugs = set(json.loads((Path(services.__file__).parent / "categories.json").read_text()))
    nouns = lexicon.english_nouns()
    assert set(nouns) == slugs
    assert all(set(groups) == slugs for groups in lexicon.foreign_nouns().values())
    assert all(group.category in slugs for group in lexicon.accessory_groups())
    assert all(slugs.issuperset(group.nearest) for group in lexicon.uncategorised_groups())
    assert len({noun for group in nouns.values() for noun in group}) >= 2_000
    assert min(len(group) for group in nouns.values()) >= 100


@pytest.mark.parametrize("path", [OWN_TITLES, OTHER_TITLES], ids=["own", "others"])
def test_no_title_that_measures_common_sense_is_learnt(path: Path, titles: list[texts.LabelledTitle]) -> None:
    if not path.is_file():
        pytest.skip("these titles are not on this machine; their digests are in held_out.txt")
    measured = {line[1] for line in csv.reader(path.open(encoding="utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE)}
    digests = {texts.title_digest(title) for title in measured}
    assert digests <= texts.held_out_digests()
    assert digests.isdisjoint(texts.title_digest(each.title) for each in titles)


def test_titles_held_out_are_left_out_whatever_their_case_and_punctuation(titles: list[texts.LabelledTitle]) -> None:
    assert texts.is_held_out("  BICYCLE derailleur! ")
    assert not texts.is_held_out("Bicycle derailleur with box")
    assert texts.held_out_digests().isdisjoint(texts.title_digest(each.title) for each in titles)


def test_the_same_titles_are_generated_each_time_and_each_once_a_category(titles: list[texts.LabelledTitle]) -> None:
    again = texts.everyday_titles()
    assert again == titles
    assert [each.noun for each in again] == [each.noun for each in titles]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("words", "category"),
    [
        ("bike lock", "sports-outdoors"),
        ("nail gun", "tools-home-improvement"),
        ("nail polish", "beauty"),
        ("doll stroller", "toys-games"),
        ("toy washing machine", "toys-games"),
        ("washing machine", "appliances"),
    ],
)
def test_a_noun_is_listed_where_a_shop_lists_it(words: str, category: str) -> None:
    assert [slug for slug, nouns in lexicon.english_nouns().items() if words in nouns] == [category]


def test_a_fit_learns_the_titles_of_its_own_labels_and_keeps_its_test_split(tmp_path: Path) -> None:
    labels = ("musical-instruments", "patio-lawn-garden", "unknown-to-the-lexicon")
    words = dict(zip(labels, fitting.WORDS.values(), strict=True))
    corpus = fitting.write_small_corpus(tmp_path / "corpus", labels=labels, words=words)
    recipe = fitting.short_recipe("text", "everyday")
    job = Job(tmp_path, "text", recipe, corpus, labels)
    tables = read_tables(job)

    enlarged = add_everyday_titles(tables, job)

    train, validation = enlarged["train"], enlarged["validation"]
    added = train.sources == EVERYDAY
    assert enlarged["test"] is tables["test"]
    assert added.sum() > 1_000 and 0 < (validation.sources == EVERYDAY).sum() < added.sum() / 10
    assert {labels[target] for target in train.targets[added]} == set(labels[:2])
    assert train.data[int(train.rows[-1])]["label"] == labels[train.targets[-1]]
    assert train.weights.mean() == pytest.approx(1, rel=1e-5)
    assert len(np.unique(train.keys)) == len(train)
