"""Words with typing errors, and the known words that they become."""

import pytest

from classifier.taxonomy.typing_errors import closest_word, typing_distance


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("guitar", "guitar", 0),
        ("guitr", "guitar", 1),  # a letter is missing
        ("guiitar", "guitar", 1),  # too many
        ("guitor", "guitar", 1),  # wrong
        ("guitra", "guitar", 1),  # swapped
        ("bycicle", "bicycle", 2),
        ("", "ab", 2),
        ("drum", "guitar", 3),
        ("a" * 5000, "b" * 5000, 3),
    ],
)
def test_each_wrong_letter_counts_once(first: str, second: str, distance: int) -> None:
    assert typing_distance(first, second, limit=2) == typing_distance(second, first, limit=2) == distance


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("labtop", "laptop"),
        ("bycicle", "bicycle"),
        ("lap", None),  # three letters are too few
        ("latpo", None),  # two errors in a short word
        ("kayak", None),
    ],
)
def test_a_word_is_corrected_where_a_known_one_is_close(word: str, expected: str | None) -> None:
    assert closest_word(word, {"laptop": 3, "bicycle": 9, "lathe": 1}) == expected


def test_of_words_at_the_same_distance_the_most_frequent_is_taken() -> None:
    assert closest_word("bell", {"belt": 2, "ball": 7}) == "ball"
