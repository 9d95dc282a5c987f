"""Guess the language of product texts by script and function words."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

MINIMUM_KNOWN_WORDS = 2  # that a text must have in a language
MAXIMUM_WORDS = 200  # that are read of a text
CHARACTERS_PER_WORD = 12  # at most so many on average, to cut a text before it is split
MAXIMUM_CHARACTERS = 1_000  # that are read for the script
UNKNOWN_LANGUAGE = "unknown"

# Function words that hardly occur in the other languages listed. Titles have few of them, so words that shops use in
# every other title are listed, too.
STOP_WORDS: Mapping[str, str] = {
    "en": "the and with for of your from this are you is it on by an or new pack size men women black white set kit "
    "buy our that all not be into has cover case",
    "es": "el los las del con para por una un que su es y más sin como desde color tamaño mujer hombre negro de la en",
    "pt": "o os as do da dos das com para por uma um que não em e seu sua mais cor tamanho feminino masculino",
    "fr": "le les des du avec pour une un et dans sur est que vous votre pas plus couleur taille femme homme noir la",
    "de": "der die das und mit für ein eine von ist nicht auf den dem des aus zu im bei oder farbe größe damen herren",
    "it": "il gli della dello con per una un che non di da sono nel più colore taglia donna uomo nero e è",
    "nl": "het een van met voor en niet op zijn is uit aan bij deze kleur maat dames heren zwart",
    "id": "yang dan dengan untuk dari ini itu tidak bisa ada pada juga atau anda warna ukuran anak bahan kami wanita "
    "pria isi",
    "vi": "và của cho với các không được có là khi này trong một người màu dễ",
    "pl": "i z na do w nie dla jest się oraz kolor rozmiar damska",
    "tr": "ve için ile bir bu çok renk kadın erkek beden siyah",
    "sv": "och med för att det som är en ett på av inte färg storlek",
}

# The language that a script stands for, where one is by far the most common.
SCRIPT_LANGUAGES: Mapping[str, str] = {
    "THAI": "th", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "CYRILLIC": "ru", "ARABIC": "ar",
    "HEBREW": "he", "GREEK": "el", "DEVANAGARI": "hi", "TAMIL": "ta", "BENGALI": "bn",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")
_LANGUAGES_BY_WORD: dict[str, list[str]] = {}
for _language, _words in STOP_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_BY_WORD.setdefault(_word, []).append(_language)


def guess_language(text: str) -> str:
    """Return the likely language of a product text as ISO 639-1, or `UNKNOWN_LANGUAGE`.

    The script decides where it can, else the function words of a dozen languages. The guess is for counting thousands
    of texts and not for a single one: short titles often have no function word, and unknown is a share like any other.
    """
    if language := _language_of_script(text):
        return language
    words = _WORD.findall(text[: MAXIMUM_WORDS * CHARACTERS_PER_WORD].casefold())[:MAXIMUM_WORDS]
    hits: Counter[str] = Counter()
    weights: defaultdict[str, float] = defaultdict(float)
    for word in words:
        languages = _LANGUAGES_BY_WORD.get(word, [])
        for language in languages:
            hits[language] += 1
            weights[language] += 1 / len(languages)  # a word of four languages is a quarter of evidence for each
    if not weights:
        return UNKNOWN_LANGUAGE
    best = max(weights, key=lambda language: weights[language])
    is_tied = list(weights.values()).count(weights[best]) > 1
    return UNKNOWN_LANGUAGE if is_tied or hits[best] < MINIMUM_KNOWN_WORDS else best


def _language_of_script(text: str) -> str | None:
    """Return the language of the script that most letters are in; None for Latin letters or none."""
    letters = [character for character in text[:MAXIMUM_CHARACTERS] if character.isalpha()]
    counts = Counter(_script_languages(letter for letter in letters if letter > "\u02ff"))
    # A third is enough: brands and units stay Latin in any language.
    if not counts or counts.total() * 3 < len(letters):
        return None
    # Japanese mixes its own scripts with Chinese characters.
    if counts["ja"]:
        return "ja"
    return counts.most_common(1)[0][0]


def _script_languages(letters: Iterable[str]) -> Iterator[str]:
    for letter in letters:
        script = unicodedata.name(letter, "").split(" ")[0]
        if script in SCRIPT_LANGUAGES:
            yield SCRIPT_LANGUAGES[script]
