"""Clean and limit product text: one normaliser for forms, the API, imports, training and serving.

A text must be the same characters wherever it comes in. Otherwise a model would read at serving what it never met in
training, and a product would look different after an export and an import.
"""

import re
import unicodedata

TITLE_LIMIT = 300
DESCRIPTION_LIMIT = 5000
SKU_LIMIT = 64
REQUESTED_CATEGORY_LIMIT = 200

# Embeddings, overrides and isolates let a text change the order in which a page shows its neighbours. They have no
# width, so nothing is seen where they stand: a space there would split a word in two. Half a surrogate pair (an emoji
# that a length limit cut) stands for nothing at all, and neither PostgreSQL nor a tokenizer takes it.
_DROPPED = re.compile("[\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Tabs, page breaks and other control characters separate words where they occur, so dropping them would join two.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
_CONTROLS_EXCEPT_LINE_FEED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_LINE_ENDS = re.compile("\r\n|[\r\u2028\u2029]")


def clean_line(text: str, *, limit: int | None = None) -> str:
    """Return the text as one line in NFC: no control characters, and one space between words.

    `limit` cuts it to so many characters. Cleaning a clean text changes nothing.
    """
    spaced = _CONTROLS.sub(" ", _DROPPED.sub("", text))
    return _cut(" ".join(unicodedata.normalize("NFC", spaced).split()), limit)


def clean_lines(text: str, *, limit: int | None = None) -> str:
    """Return the text in NFC with its lines: no control characters but line feeds, and no spaces at the lines' ends.

    `limit` cuts it to so many characters. Cleaning a clean text changes nothing.
    """
    with_line_feeds = _LINE_ENDS.sub("\n", _DROPPED.sub("", text))
    spaced = _CONTROLS_EXCEPT_LINE_FEED.sub(" ", with_line_feeds)
    lines = unicodedata.normalize("NFC", spaced).split("\n")
    return _cut("\n".join(line.rstrip() for line in lines).strip(), limit)


def clean_title(text: str) -> str:
    """Return a product's title as it is stored, learnt and served; one that is too long is cut."""
    return clean_line(text, limit=TITLE_LIMIT)


def clean_description(text: str) -> str:
    """Return a product's description as it is stored, learnt and served; one that is too long is cut."""
    return clean_lines(text, limit=DESCRIPTION_LIMIT)


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None else text[:limit].rstrip()
