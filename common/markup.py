"""Turn HTML tags and entities in a product's text into plain text.

Only elements that HTML has are tags: "<3", "5 < 10" and "<size M>" are words that a person typed. Every search goes
through the text once, because a cell of an import may have a million characters.
"""

import html
import re
from html.entities import html5

# Elements within a line: words on both sides of such a tag belong together, as in H<sub>2</sub>O.
_INLINE_NAMES = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd mark o:p q rp rt ruby s samp small span "
    "strike strong sub sup time tt u var wbr"
)
_INLINE = frozenset(_INLINE_NAMES.split())
# All others separate what is before them from what follows.
_BLOCK_NAMES = (
    "!doctype address article aside audio blockquote body br button canvas caption center col colgroup dd details "
    "dialog div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup "
    "hr html iframe img input label legend li link main map menu meta nav noscript object ol optgroup option p param "
    "picture pre script section select source style summary svg table tbody td template textarea tfoot th thead title "
    "tr ul video"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
# An attribute in quotation marks may hold a ">". The possessive repetitions never try a shorter match again.
_TAG = re.compile(r"""</?(!?[A-Za-z][A-Za-z0-9:]*+)(?=[\s/>])(?:[^<>"']++|"[^"]*+"|'[^']*+')*+>""")
# Stands for a block's tag until neighbouring ones are one line end; `common.text` has replaced control characters.
_BREAK = "\0"
_BREAKS = re.compile("\0[\0 \n]*")
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
# What a browser never shows, with its end.
_UNSEEN = re.compile(r"<!--|<(script|style)(?=[\s/>])", re.IGNORECASE)
_UNSEEN_ENDS = {
    "": re.compile("-->"),
    "script": re.compile(r"</script\b[^<>]*+>", re.IGNORECASE),
    "style": re.compile(r"</style\b[^<>]*+>", re.IGNORECASE),
}
# Without the semicolon "&copy=2" in an address would become a sign.
_ENTITY = re.compile("&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_REPEATED_AMPERSAND = re.compile("&(?:amp;)+", re.IGNORECASE)


def plain_text(text: str) -> str:
    """Return the text without tags and comments, its entities decoded once; line feeds where blocks end.

    The text has no control characters but line feeds.
    """
    if "<" in text:
        text = _TAG.sub(_separator, _without_unseen(_CDATA.sub("", text)))
        text = _BREAKS.sub("\n", text)
    if "&" in text:
        text = _ENTITY.sub(_character, _REPEATED_AMPERSAND.sub("&", text))
    return text


def _without_unseen(text: str) -> str:
    """Drop comments, scripts and style sheets; one that doesn't end stays, because it may be no markup."""
    kept: list[str] = []
    start = 0
    while opening := _UNSEEN.search(text, start):
        closing = _UNSEEN_ENDS[(opening[1] or "").lower()].search(text, opening.end())
        if closing is None:
            break
        kept += text[start : opening.start()], _BREAK
        start = closing.end()
    return "".join([*kept, text[start:]])


def _separator(tag: re.Match[str]) -> str:
    """Return what a tag leaves in the text: itself, if HTML has no such element."""
    name = tag[1].lower()
    if name in _INLINE:
        return ""
    return _BREAK if name in _BLOCKS else tag[0]


def _character(entity: re.Match[str]) -> str:
    name = entity[0]
    # html.unescape also decodes the start of a name that it does not know: "&notme;" would become "¬me;".
    return html.unescape(name) if name[1] == "#" or name[1:] in html5 else name
