"""Clean and limit product text: one normaliser for forms, the API, imports, training and serving.

A text must be the same characters wherever it comes in. Otherwise a model would read at serving what it never met in
training, and a product would look different after an export and an import.
"""

import re
import unicodedata

from common.markup import plain_text

TITLE_LIMIT = 300
DESCRIPTION_LIMIT = 5000
SKU_LIMIT = 64
REQUESTED_CATEGORY_LIMIT = 200

# What programs write where there is no value, in any case.
_PLACEHOLDERS = (
    "nan -nan <na> na n/a n.a. n.a #n/a #na null <null> (null) (blank) (empty) \\n none nil undefined #value! #ref! "
    "#name? #null! #div/0! - -- --- \u2013 \u2014 . ?"
)
PLACEHOLDERS = frozenset(_PLACEHOLDERS.split())
_LONGEST_PLACEHOLDER = max(map(len, PLACEHOLDERS))

# Decoding may reveal another tag or entity ("&amp;lt;b&amp;gt;"): more levels than this are no accident.
_PASSES = 5

# Embeddings, overrides and isolates let a text change the order in which a page shows its neighbours. Zero-width
# spaces, soft hyphens, fillers and blank patterns show nothing. A space where these stand would split a word in two.
# Half a surrogate pair (an emoji that a length limit cut) stands for nothing at all, and neither PostgreSQL nor a
# tokenizer takes it.
_INVISIBLE = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u202a-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0"
    "\ufff0-\ufffc\ufffe\uffff"
)
_DROPPED = re.compile(f"[{_INVISIBLE}\U0001bca0-\U0001bca3\U0001d173-\U0001d17a]")
# Tag characters spell the flags of England, Scotland and Wales behind a black flag. Elsewhere they are hidden text.
_TAG_CHARACTERS = re.compile("(\U0001f3f4[\U000e0061-\U000e007f]{1,7})|[\U000e0000-\U000e007f]+")
# Joiners, direction marks and variation selectors show nothing themselves, but emoji and some scripts need them.
_JOINING = "\u061c\u180b-\u180d\u180f\u200c-\u200f\ufe00-\ufe0f"
_JOINERS = re.compile(f"[{_JOINING}\U000e0100-\U000e01ef]+")
_DIRECTION_MARKS = re.compile("[\u061c\u200e\u200f]+")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
# Signs of ASCII, Latin letters with their accents, and blanks.
_NEVER_JOINED = re.compile("[\x00-\u024f\u0300-\u036f\u1e00-\u1eff\\s]")

# Letters, digits and signs in another style: full and half width, "bold" and "script" of mathematics, in circles and
# squares, small and raised letters, ligatures, presentation forms, units in one character, Roman numerals, and spaces
# of other widths. The rest of what NFKC changes is left: 2½ would become 21/2, m² m2, and Lego™ LegoTM.
_STYLES = (
    "\u00a0\u02b0-\u02b8\u02e0-\u02e4\u1680\u1d2c-\u1d6a\u1d78\u1d9b-\u1dbf\u2000-\u200a\u202f\u205f\u2071\u207f"
    "\u2090-\u209c\u2102\u2103\u2107\u2109-\u2115\u2119-\u211d\u2124\u2128\u212c\u212d\u212f-\u2138\u213c-\u2149"
    "\u2160-\u217f\u249c-\u24e9\u2c7c\u2c7d\u3000\u3200-\u321e\u3220-\u3247\u3250-\u327e\u3280-\u3296\u3298"
    "\u329a-\u33ff\ufb00-\ufbb1\ufbd3-\ufd3d\ufd50-\ufd8f\ufd92-\ufdc7\ufdf0-\ufdfc\ufe10-\ufe19\ufe30-\ufe52\ufe54-\ufe66"
    "\ufe68-\ufe6b\ufe70-\ufefc\uff01-\uff9f\uffa1-\uffee"
)
_STYLED = re.compile(
    f"[{_STYLES}\U0001d400-\U0001d7ff\U0001ee00-\U0001eeff\U0001f110-\U0001f12e\U0001f130-\U0001f149]+"
)
# White letters on black, which Unicode does not decompose.
_NEGATIVE_LETTERS = {
    **{0x1F150 + number: ord("A") + number for number in range(26)},
    **{0x1F170 + number: ord("A") + number for number in range(26)},
}

# Tabs, page breaks and other control characters separate words where they occur, so dropping them would join two.
_CONTROLS = "\x00-\x09\x0b-\x1f\x7f-\x9f"
_CONTROLS_EXCEPT_LINE_FEED = re.compile(f"[{_CONTROLS}]")
_LINE_ENDS = re.compile("\r\n|[\r\u2028\u2029]")

# One search tells that a text has nothing of all this, as most texts have; beyond the first plane anything may be.
_UNUSUAL = re.compile(f"[{_CONTROLS}\u2028\u2029{_INVISIBLE}{_JOINING}{_STYLES}\U00010000-\U0010ffff]")


def clean_line(text: str, *, limit: int | None = None) -> str:
    """Return the text as one line of plain text in NFC: no markup, nothing invisible, one space between words.

    `limit` cuts it to so many characters. Cleaning a clean text changes nothing.
    """
    return _cut(" ".join(_plain(text).split()), limit)


def clean_lines(text: str, *, limit: int | None = None) -> str:
    """Return the text as plain text in NFC with its lines: no markup, nothing invisible, no spaces at the lines' ends.

    `limit` cuts it to so many characters. Cleaning a clean text changes nothing.
    """
    return _cut("\n".join(line.rstrip() for line in _plain(text).split("\n")).strip(), limit)


def clean_title(text: str, *, limit: int | None = TITLE_LIMIT) -> str:
    """Return a product's title as it is stored, learnt and served; one that is too long is cut."""
    return without_placeholder(clean_line(text, limit=limit))


def clean_description(text: str, *, limit: int | None = DESCRIPTION_LIMIT) -> str:
    """Return a product's description as it is stored, learnt and served; one that is too long is cut."""
    return without_placeholder(clean_lines(text, limit=limit))


def without_placeholder(text: str) -> str:
    """Return a clean text, or "" for one that a program wrote where there was no value ("nan", "NULL", "N/A")."""
    return "" if len(text) <= _LONGEST_PLACEHOLDER and text.casefold() in PLACEHOLDERS else text


def _plain(text: str) -> str:
    """Return the text in NFC without markup, invisible characters and styled letters; its line ends are line feeds."""
    for _pass in range(_PASSES):
        before, text = text, plain_text(_visible(text))
        if text == before:
            return text
    # Somebody wraps markup into markup: without its signs nothing is left to decode.
    return _visible(_visible(text).replace("<", "").replace("&", ""))


def _visible(text: str) -> str:
    """Return the text in NFC with plain letters for styled ones, and nothing that is invisible."""
    if not _UNUSUAL.search(text):
        return unicodedata.normalize("NFC", text)
    text = _CONTROLS_EXCEPT_LINE_FEED.sub(" ", _LINE_ENDS.sub("\n", text))
    text = _TAG_CHARACTERS.sub(r"\1", _DROPPED.sub("", text))
    text = _STYLED.sub(_unstyled, text).translate(_NEGATIVE_LETTERS)
    # A letter and its accent must be one character before the neighbours of joiners are looked at.
    text = _JOINERS.sub(_needed_joiners, unicodedata.normalize("NFC", text))
    return unicodedata.normalize("NFC", text)


def _unstyled(letters: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", letters[0])


def _needed_joiners(run: re.Match[str]) -> str:
    """Return what the character before a run of joiners, marks and selectors needs of it."""
    before = run.string[run.start() - 1 : run.start()]
    if not before or _NEVER_JOINED.match(before):
        return ""
    # Where a text is cut, what follows is lost: what is kept may only depend on what comes before.
    return run[0] if _RIGHT_TO_LEFT.match(before) else _DIRECTION_MARKS.sub("", run[0])


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None else text[:limit].rstrip()
