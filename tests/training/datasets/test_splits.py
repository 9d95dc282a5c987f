import random
from collections import Counter

import pytest

from training.datasets.splits import (
    BRIDGE,
    are_near_duplicates,
    choose_split,
    minhash_bands,
    split_of_key,
    title_key,
    title_words,
)

WORDS = [f"{first}{second}" for first in "bcdfghjklm" for second in ("olo", "ana", "ire", "use", "ent", "ack")]


PARTS = ["train", "validation", "test"]
KEY = -2815480863505202015
FIRST_BANDS = [-1168283802413659932, 1785879993733292410]


def test_about_seventy_ten_and_twenty_percent_go_to_the_three_splits() -> None:
    counts = Counter(split_of_key(str(number)) for number in range(10_000))
    assert counts["train"] == pytest.approx(7_000, abs=200)
    assert counts["validation"] == pytest.approx(1_000, abs=120)


def test_splits_and_bands_never_change() -> None:
    assert [split_of_key(key) for key in ("bicycle", "rake", "green tea")] == PARTS
    assert title_key(title_words("Garden rake, steel")) == KEY
    assert minhash_bands(title_words("Garden rake, steel"))[:2] == FIRST_BANDS


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Cotton socks for men, black, pack of 3", "COTTON SOCKS FOR MEN BLACK - PACK OF 12"),
        ("Steel rake 5-M", "rake, STEEL"),
    ],
)
def test_case_digits_and_order_make_no_other_title(first: str, second: str) -> None:
    assert title_key(title_words(first)) == title_key(title_words(second)) != 0


def test_near_titles_share_a_band() -> None:
    choice = random.Random(1)
    missed = compared = 0
    for _number in range(3_000):
        first = frozenset(choice.sample(WORDS, choice.randint(3, 16)))
        second = (first - {choice.choice(sorted(first))}) | {choice.choice(WORDS)}
        if are_near_duplicates(first, second):
            compared += 1
            missed += not set(minhash_bands(first)) & set(minhash_bands(second))
    assert compared > 1_000
    assert missed == 0


def test_distant_titles_hardly_ever_share_one() -> None:
    choice = random.Random(2)
    pairs = [(frozenset(choice.sample(WORDS, 8)), frozenset(choice.sample(WORDS, 8))) for _number in range(500)]
    assert sum(bool(set(minhash_bands(first)) & set(minhash_bands(second))) for first, second in pairs) < 25


def test_a_product_goes_to_the_split_of_similar_ones_and_to_none_of_two() -> None:
    assert choose_split({"test"}, key="x") == "test"
    assert choose_split({"test", "train"}, key="x") == BRIDGE
    assert choose_split({"test"}, key="x", own="train") == BRIDGE
    assert choose_split({"train"}, key="x", own="train") == "train"
    assert choose_split((), key="x") == split_of_key("x")
