import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from classifier.ml.ngrams import lexical_text
from classifier.ml.text_model import join_text
from common.text import (
    DESCRIPTION_LIMIT,
    TITLE_LIMIT,
    clean_description,
    clean_line,
    clean_lines,
    clean_title,
)

BIDIRECTIONAL = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Any code point, lone surrogates too, with those that cleaning is about far more often than by chance.
CHARACTERS = st.characters(exclude_categories=()) | st.sampled_from(
    [*BIDIRECTIONAL, *"\x00\x07\t\n\r\x0b\x0c\x1f\x7f\x85\x9f \u00a0\u2028\u2029\ud83d\udfffe\u0301\u1100\u1161"]
)
TEXTS = st.text(CHARACTERS)


@given(TEXTS)
@example("e\u202e\u0301")  # the accent joins its letter once what stood between them is dropped
@example("\x1f\u2028a")
def test_cleaning_a_clean_text_changes_nothing(text: str) -> None:
    for clean in (clean_line, clean_lines, clean_title, clean_description):
        assert clean(clean(text)) == clean(text)


@given(TEXTS, st.integers(1, 20))
def test_a_cut_text_is_clean_and_no_longer_than_its_limit(text: str, limit: int) -> None:
    for clean in (clean_line, clean_lines):
        cut = clean(text, limit=limit)
        assert len(cut) <= limit
        assert clean(cut) == cut
        assert clean(text).startswith(cut)


@given(TEXTS)
def test_a_clean_text_has_nothing_that_a_page_or_a_database_refuses(text: str) -> None:
    for clean in (clean_line(text), clean_lines(text).replace("\n", "")):
        assert not BIDIRECTIONAL & set(clean)
        assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(character) for character in clean}
        assert unicodedata.is_normalized("NFC", clean)
        clean.encode()


@given(TEXTS)
def test_a_line_has_single_spaces_and_lines_have_no_spaces_at_their_ends(text: str) -> None:
    assert clean_line(text) == " ".join(clean_line(text).split())
    assert all(line == line.rstrip() for line in clean_lines(text).split("\n"))
    assert clean_lines(text) == clean_lines(text).strip()


@given(TEXTS)
def test_no_word_is_lost_or_joined(text: str) -> None:
    """Control characters separate words, and what has no width does not."""
    kept = "".join(character for character in text if character not in BIDIRECTIONAL and not _is_surrogate(character))
    words = "".join(" " if unicodedata.category(character) == "Cc" else character for character in kept)
    assert clean_line(text).split() == unicodedata.normalize("NFC", words).split()
    assert clean_lines(text).split() == clean_line(text).split()


@given(TEXTS, TEXTS)
def test_models_read_the_same_of_a_text_and_of_the_clean_text(title: str, description: str) -> None:
    stored = clean_title(title), clean_description(description)
    assert join_text(title, description) == join_text(*stored)
    assert lexical_text(title, description) == lexical_text(*stored)


@pytest.mark.parametrize(
    ("given_text", "line", "lines"),
    [
        ("Red\tmug\x0bwith\x00handle", "Red mug with handle", "Red mug with handle"),
        ("mug\u202egpj.exe", "muggpj.exe", "muggpj.exe"),
        ("half a pair \ud83d", "half a pair", "half a pair"),
        ("Cafe\u0301", "Café", "Café"),
        ("one \r\ntwo\rthree\u2028four", "one two three four", "one\ntwo\nthree\nfour"),
        ("🎸 guitar 🧑\u200d🎤", "🎸 guitar 🧑\u200d🎤", "🎸 guitar 🧑\u200d🎤"),
        (
            "كوب\u200f أحمر",
            "كوب\u200f أحمر",
            "كوب\u200f أحمر",
        ),  # a mark moves no neighbours, and some languages need it
    ],
)
def test_what_becomes_of_a_text(given_text: str, line: str, lines: str) -> None:
    assert clean_line(given_text) == line
    assert clean_lines(given_text) == lines


def test_titles_and_descriptions_have_limits() -> None:
    assert clean_title("x" * 1000) == "x" * TITLE_LIMIT
    assert clean_description("x\n" * 9000) == clean_lines("x\n" * (DESCRIPTION_LIMIT // 2))


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"
