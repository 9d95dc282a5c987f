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
INVISIBLE = set("\u00ad\u034f\u115f\u180e\u200b\u2060\u2800\u3164\ufeff\uffa0\U000e0041")
JOINERS = set("\u200c\u200d\u200e\u200f\ufe0f\U0001f3f4\U000e0067")
MARKUP = [
    *("<b>", "</p>", "<br/>", "<p title='", "<!--", "-->", "<script>", "</script>", "lt;", "b>", *"&<>;"),
    *("&amp;", "&lt;", "&#60;", "&#x26;", "\uff06", "\uff1c", "\u0627", "\U0001d400", *JOINERS),
]
# Any code point, lone surrogates too, with those that cleaning is about far more often than by chance.
CHARACTERS = st.characters(exclude_categories=()) | st.sampled_from(
    [
        *MARKUP,
        *INVISIBLE,
        *BIDIRECTIONAL,
        *"\x00\x07\t\n\r\x0b\x0c\x1f\x7f\x85\x9f \u00a0\u2028\u2029\ud83d\udfffe\u0301\u1100\u1161",
    ]
)
TEXTS = st.lists(CHARACTERS | st.sampled_from(MARKUP)).map("".join)


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
        assert not (BIDIRECTIONAL | INVISIBLE - {"\U000e0041"}) & set(clean)
        assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(character) for character in clean}
        assert unicodedata.is_normalized("NFC", clean)
        clean.encode()


@given(TEXTS)
def test_a_line_has_single_spaces_and_lines_have_no_spaces_at_their_ends(text: str) -> None:
    assert clean_line(text) == " ".join(clean_line(text).split())
    assert all(line == line.rstrip() for line in clean_lines(text).split("\n"))
    assert clean_lines(text) == clean_lines(text).strip()


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp", "Mn", "Lm"))
               | st.sampled_from([*"\t\n\x0b\x85 ", *INVISIBLE, *BIDIRECTIONAL])))  # fmt: skip
def test_no_word_is_lost_or_joined(text: str) -> None:
    """Control characters separate words, and what has no width does not."""
    text = text.translate(dict.fromkeys(map(ord, "<&")))
    kept = "".join(character for character in text if character not in BIDIRECTIONAL | INVISIBLE)
    assert unicodedata.normalize("NFKC", clean_line(text)).split() == unicodedata.normalize("NFKC", kept).split()
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
        ("Men&#39;s T-Shirt &amp; Shorts", "Men's T-Shirt & Shorts", "Men's T-Shirt & Shorts"),
        ("<p>Cotton&nbsp;shirt</p><script>var a=1</script>\n<p>Red</p>", "Cotton shirt Red", "Cotton shirt\nRed"),
        ("<ul><li>oak<li><b>be</b>ech</ul>", "oak beech", "oak\nbeech"),
        ("H<sub>2</sub>O<br>1 l", "H2O 1 l", "H2O\n1 l"),
        ('<img alt="a > b" src=x><a href="?a=1&b=2">Lamp</a>', "Lamp", "Lamp"),
        ("&amp;lt;p&amp;gt;Caf&eacute;&lt;/p&gt;", "Café", "Café"),
        ("I <3 cats, 5 < 10, <size M>, List<int>", *2 * ["I <3 cats, 5 < 10, <size M>, List<int>"]),
        ("AT&T R&B; ?a=1&copy=2 &notanentity;", *2 * ["AT&T R&B; ?a=1&copy=2 &notanentity;"]),
        ("<!-- from Word -->Oak <o:p></o:p>table", "Oak table", "Oak table"),
        ("Ｗｏｏｄｅｎ　ｔｒａｉｎ", "Wooden train", "Wooden train"),
        ("𝗕𝗢𝗟𝗗 𝒮𝒶𝓁𝑒 Ⓢⓐⓛⓔ 🅂🄰🄻🄴 🆂🅰🅻🅴", *2 * ["BOLD Sale Sale SALE SALE"]),
        ("ﬁne ㎏ ｶﾞﾗｽ Ⅳ", "fine kg ガラス IV", "fine kg ガラス IV"),
        ("2½ l, 5 m², Lego™, 20 ℃ …", "2½ l, 5 m², Lego™, 20 °C …", "2½ l, 5 m², Lego™, 20 °C …"),
        ("\u200eWood\u200ben\ufeff tr\u00adain", "Wooden train", "Wooden train"),
        ("Wo\u200dod\ufe0f", "Wood", "Wood"),
        ("می\u200cخواهم", "می\u200cخواهم", "می\u200cخواهم"),
        ("❤\ufe0f 🏴\U000e0067\U000e0062\U000e007f!\U000e0041", *2 * ["❤\ufe0f 🏴\U000e0067\U000e0062\U000e007f!"]),
        ("\u3164\u2800\u200d\ufe0f\u200f", "", ""),
    ],
)
def test_what_becomes_of_a_text(given_text: str, line: str, lines: str) -> None:
    assert clean_line(given_text) == line
    assert clean_lines(given_text) == lines


def test_titles_and_descriptions_have_limits() -> None:
    assert clean_title("x" * 1000) == "x" * TITLE_LIMIT
    assert clean_description("x\n" * 9000) == clean_lines("x\n" * (DESCRIPTION_LIMIT // 2))


@pytest.mark.parametrize("cell", ["nan", "NULL", " N/A ", "None", "#N/A", "\\N", "-", "<p>n/a</p>"])
def test_a_placeholder_is_no_title_and_no_description(cell: str) -> None:
    assert clean_title(cell) == clean_description(cell) == ""
    assert clean_title(f"{cell} bread") != ""


@pytest.mark.parametrize(
    "unit", ["&amp;", "amp;", "#xFF06;", "<script>", "<!--", "<p a='", '<p "', "<div ", "&am", "\u200d", "<a '\"", " "]
)
def test_markup_in_markup_ends_as_clean_text(unit: str) -> None:
    text = "&" + unit * 50_000
    assert clean_lines(clean_lines(text)) == clean_lines(text)
