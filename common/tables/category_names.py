"""Compare the names of categories as sources write them: a lookup, not an identity."""

import re
import unicodedata

from common.text import clean_line

# "&", "+" and "and" between words, and the signs by which slugs, lists and titles separate them. "C++" keeps its signs.
_AND = re.compile(r"\s*&\s*|\s+\+\s+|(?<=\w)\+(?=\w)|\s+(?:and|n')\s+")
_SEPARATORS = re.compile(r"[\s_,/\-\u2010-\u2015]+")


def exact_key(name: str) -> str:
    """Return a name as it is compared first: in NFKC, without markup, case and repeated spaces."""
    return clean_line(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean_line(name)).casefold()))


def loose_key(name: str) -> str:
    """Return a name as it is compared next: "&" is "and", and commas, slashes and hyphens are spaces."""
    return _SEPARATORS.sub(" ", _AND.sub(" ", exact_key(name))).strip()
