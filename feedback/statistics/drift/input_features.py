"""What drift looks at in one input: how its text and its photograph look, not what they show."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

MINIMUM_KNOWN_WORDS = 2  # known words a language must show before a text is said to be in it
MAXIMUM_WORDS = 200
SHARPNESS_SIDE = 256  # pixels of the short side at which sharpness is measured

# Function words that hardly occur in the other languages listed. Titles of products have few of them, so the words that
# shops use in every other title stand here too.
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

# Which language a script speaks for, where one is by far the commonest.
SCRIPT_LANGUAGES: Mapping[str, str] = {
    "THAI": "th", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "CYRILLIC": "ru", "ARABIC": "ar",
    "HEBREW": "he", "GREEK": "el", "DEVANAGARI": "hi", "TAMIL": "ta", "BENGALI": "bn",
}  # fmt: skip
UNKNOWN_LANGUAGE = "unknown"

_WORD = re.compile(r"[^\W\d_]+")
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in STOP_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_word, []).append(_language)


@dataclass(frozen=True)
class PhotoFeatures:
    """How a photograph looks. Sizes in pixels, brightness in [0, 1], sharpness as `laplacian_sharpness` gives it."""

    width: int
    height: int
    brightness: float
    sharpness: float


def guess_language(text: str) -> str:
    """Return the likely language of a product text as ISO 639-1, or "unknown".

    By its script where that decides, else by the function words of a dozen languages. A guess for counting thousands of
    texts, not for one: short titles often have no function word and stay unknown, which is a share like any other.
    """
    if script := _script(text):
        return script
    words = _WORD.findall(text[: MAXIMUM_WORDS * 12].casefold())[:MAXIMUM_WORDS]
    hits: Counter[str] = Counter()
    weights: defaultdict[str, float] = defaultdict(float)
    for word in words:
        for candidate in (found := _LANGUAGES_OF.get(word, [])):
            hits[candidate] += 1
            weights[candidate] += 1 / len(found)  # a word of four languages speaks for each a quarter
    best = max(weights, key=lambda candidate: weights[candidate], default=UNKNOWN_LANGUAGE)
    tied = sum(weight == weights[best] for weight in weights.values()) > 1
    return UNKNOWN_LANGUAGE if tied or hits[best] < MINIMUM_KNOWN_WORDS else best


def measure_photo(image: Image.Image, size: tuple[int, int] | None = None) -> PhotoFeatures:
    """Return how the image looks; `size` is the original's width and height where `image` is a smaller copy."""
    width, height = size or image.size
    grey = _grey(image)
    return PhotoFeatures(width, height, float(grey.mean() / 255), laplacian_sharpness(grey))


def laplacian_sharpness(grey: npt.NDArray[np.uint8]) -> float:
    """Return ln(1 + the variance of the Laplacian) of greys (height, width) in 0..255.

    The focus measure of Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy"; the logarithm
    because it spans four orders of magnitude. A picture under 3 x 3 pixels has none: 0.
    """
    if min(grey.shape) < 3:
        return 0.0
    g = grey.astype(np.float32)
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return float(np.log1p(laplacian.var()))


def _grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    scale = SHARPNESS_SIDE / min(image.size)
    if scale < 1:
        image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    return np.asarray(image.convert("L"), np.uint8)


def _script(text: str) -> str | None:
    """Return the language for which most of the letters speak by their script; None for Latin and no letters."""
    letters = [character for character in text[:1_000] if character.isalpha()]
    foreign: Counter[str] = Counter(_scripts(letter for letter in letters if letter > "\u02ff"))
    if sum(foreign.values()) * 3 < len(letters) or not foreign:  # brands and units stay Latin in any language
        return None
    if foreign["ja"]:  # Japanese mixes its own signs with Chinese ones
        return "ja"
    return foreign.most_common(1)[0][0]


def _scripts(letters: Iterable[str]) -> Iterable[str]:
    for letter in letters:
        script = unicodedata.name(letter, "").split(" ")[0]
        if script in SCRIPT_LANGUAGES:
            yield SCRIPT_LANGUAGES[script]
