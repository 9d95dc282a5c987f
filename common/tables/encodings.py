"""Recognise the encoding of a table, or refuse to guess it.

A text that is decoded wrongly looks like a text, and a model would learn it. UTF-8 and UTF-16 prove themselves; for
others this module compares how likely the decoded letters are in the languages that are written in each encoding, and
refuses a file for which two encodings are about as likely. General detectors need longer texts than some product tables
have: on two short titles charset-normalizer takes Polish for Maltese and Greek for Polish.
"""

import codecs
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from common.tables.alphabets import APOSTROPHES, CANDIDATES, EAST_ASIAN, LETTERS, SIGNS, Candidate
from common.tables.errors import SourceError

CHUNK = 1 << 20
SAMPLE = 1 << 16  # bytes of lines that are not ASCII
LONGEST_LINE = 4_000  # bytes of one line that the sample holds

# Information in bits. An apostrophe or a sign says less than an unexpected character, which no language explains.
_APOSTROPHE, _SIGN, _ASTRAY, _UNEXPECTED = 1.0, 5.0, 8.0, 14.0
_CAPITAL, _FURTHER_CAPITAL, _ACCENTS_IN_A_ROW, _SIGN_BESIDE_DIGIT_GAIN = 1.0, 0.3, 2.0, 3.0
_COMMON_HAN, _RARE_HAN, _KANA, _HANGUL = 11.0, 18.0, 6.0, 9.5
# Two encodings whose likelihoods differ by less than this factor (2 to the power) are not told apart.
_MARGIN = 6.0
# More bits a character than any language needs: no candidate explains the text.
_MOST_BITS, _MOST_EAST_ASIAN_BITS = 8.5, 14.0

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class _Guess:
    encoding: str
    text: str
    bits: float

    @property
    def most_bits(self) -> float:
        """The bits beyond which the guess explains nothing."""
        most = _MOST_EAST_ASIAN_BITS if self.encoding in EAST_ASIAN else _MOST_BITS
        return most * sum(1 for character in self.text if not character.isascii())


def find_encoding(file: IO[bytes], table: Path, given: str = "") -> str:
    """Read through the file; return the name of its encoding. Raises SourceError for one that is unclear or wrong.

    `given` names it: then the file only has to be readable in it.
    """
    start = file.read(4096)
    encoding = _checked(given) if given else _obvious(start, table)
    file.seek(0)
    if encoding:
        _check_whole(file, table, encoding)
        return encoding
    try:
        _decode_whole(file, "utf-8")
    except UnicodeDecodeError as error:
        file.seek(0)
        sample = _sample(file)
        _refuse_damaged_utf8(sample, table, error)
    else:
        return "utf-8-sig"
    encoding = guess_encoding(sample, table)
    file.seek(0)
    _check_whole(file, table, encoding)
    return encoding


def guess_encoding(sample: bytes, table: Path) -> str:
    """Return the encoding that explains the lines best. Raises SourceError when none does, or several do."""
    guesses = sorted(_guesses(sample), key=lambda guess: guess.bits)
    if not guesses or guesses[0].bits > guesses[0].most_bits:
        raise SourceError(
            f"{table} is not UTF-8, and its encoding can't be recognised. Save it as UTF-8, or name it: --encoding NAME"
        )
    best = guesses[0]
    rival = next((guess for guess in guesses if guess.text != best.text), None)
    if rival and rival.bits - best.bits < _MARGIN:
        one, other = _difference(best.text, rival.text)
        raise SourceError(
            f"{table} is not UTF-8. It may be {best.encoding} ({one!r}) or {rival.encoding} ({other!r}). Say which: "
            f"--encoding {best.encoding}, or save it as UTF-8."
        )
    return best.encoding


def _checked(name: str) -> str:
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError) as error:
        raise SourceError(f"--encoding {name}: Python knows no such encoding. Try utf-8, cp1252 or cp1251.") from error
    if not getattr(found, "_is_text_encoding", True):
        raise SourceError(f"--encoding {name} is no encoding of text. Try utf-8, cp1252 or cp1251.")
    return "utf-8-sig" if found.name == "utf-8" else found.name


def _obvious(start: bytes, table: Path) -> str:
    """Return the encoding that the file's first bytes prove, or "" if they prove none."""
    for bom, encoding in _BOMS:
        if start.startswith(bom):
            return encoding
    zeros = start.count(0)
    if not zeros:
        return ""
    # The header's letters are ASCII, so every second byte of UTF-16 is zero at first.
    head = start[: len(start) // 2 * 2]
    low, high = head[::2].count(0), head[1::2].count(0)
    if max(low, high) * 4 > len(head) // 2 and max(low, high) > 4 * min(low, high):
        return "utf-16-be" if low > high else "utf-16-le"
    raise SourceError(f"{table} is no text: it has bytes that are zero. Save it as CSV in UTF-8.")


def _check_whole(file: IO[bytes], table: Path, encoding: str) -> None:
    try:
        _decode_whole(file, encoding)
    except (UnicodeError, ValueError) as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        raise SourceError(
            f"{table} can't be read as {encoding.removesuffix('-sig').upper()}: {reason}. Save it as UTF-8, or name "
            "its encoding: --encoding NAME"
        ) from error


def _decode_whole(file: IO[bytes], encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    while chunk := file.read(CHUNK):
        decoder.decode(chunk)
    decoder.decode(b"", final=True)


def _sample(file: IO[bytes]) -> bytes:
    """Return lines that are not ASCII, up to the size of a sample."""
    lines: list[bytes] = []
    size = 0
    while size < SAMPLE and (line := file.readline(LONGEST_LINE)):
        if not line.isascii():
            lines.append(line.rstrip(b"\r\n"))
            size += len(line)
    return b"\n".join(lines)


def _refuse_damaged_utf8(sample: bytes, table: Path, error: UnicodeDecodeError) -> None:
    """Raise SourceError for UTF-8 with a few broken bytes: any other encoding would make nonsense of the rest."""
    text = sample.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    good = sum(1 for character in text if not character.isascii()) - broken
    if good > 4 * broken:
        raise SourceError(
            f"{table} is UTF-8 except for a few bytes such as 0x{error.object[error.start]:02X}. Save it again as "
            "UTF-8, or say what it is: --encoding NAME"
        )


def _guesses(sample: bytes) -> Iterator[_Guess]:
    for candidate in CANDIDATES:
        try:
            text = sample.decode(candidate.encoding)
        except UnicodeDecodeError:
            continue
        yield _Guess(candidate.encoding, text, candidate.rarity + min(_language_bits(text, candidate)))


def _language_bits(text: str, candidate: Candidate) -> Iterator[float]:
    """Yield the bits that the text needs in each of the candidate's languages."""
    neighbours = zip(" " + text, text, text[1:] + " ", strict=False)
    characters = [(before, character, after) for before, character, after in neighbours if not character.isascii()]
    around = _misplaced(text)
    signs = frozenset(SIGNS + APOSTROPHES)
    for language in candidate.languages:
        known = _bits_by_letter(language)
        if known is None:
            yield sum(_east_asian_bits(character, candidate.encoding) for _before, character, _after in characters)
            continue
        total = around
        is_latin = ord(LETTERS[language][0]) < 0x250
        for before, character, after in characters:
            total += known.get(character, _UNEXPECTED)
            is_beside_digit = before.isdigit() or after.isdigit()
            if character in signs:
                total -= _SIGN_BESIDE_DIGIT_GAIN * is_beside_digit  # £5, 49 €, 20°
            elif is_latin:
                # Latin languages have few letters with an accent in a row, and none beside a digit.
                total += _ACCENTS_IN_A_ROW * (before.isalpha() and not before.isascii()) + _ASTRAY * is_beside_digit
            else:
                # Other alphabets, vowel signs too, have no ASCII within a word.
                total += _ASTRAY * (_is_ascii_letter(before) + _is_ascii_letter(after))
        yield total


def _misplaced(text: str) -> float:
    """Return the bits of signs within words and of capital letters after small ones."""
    total = 0.0
    for before, character, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if character.isascii() or character in APOSTROPHES:
            continue
        if character.isalpha():
            if character.isupper():
                total += _ASTRAY if before.islower() or not (before.isalpha() or after.isalpha()) else _CAPITAL
                total -= (_CAPITAL - _FURTHER_CAPITAL) * before.isupper()
            total += _ASTRAY * (character.islower() and before.isupper() and after.isupper())
        else:
            total += _ASTRAY * (before.isalpha() and after.isalpha() and _is_sign(character))
    return total


def _is_ascii_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _is_sign(character: str) -> bool:
    return not ("\u0590" <= character <= "\u0fff")  # vowel signs of Hebrew, Arabic and Thai are parts of words


@cache
def _bits_by_letter(language: str) -> dict[str, float] | None:
    """Return the bits of each letter and sign, or None for a language of thousands of characters."""
    letters = LETTERS.get(language)
    if letters is None:
        return None
    # Frequencies of letters fall about geometrically with their rank.
    ratio = 1 - 2.2 / (len(letters) + 2)
    weights = [ratio**rank for rank in range(len(letters))]
    total = sum(weights)
    found = dict.fromkeys(SIGNS, _SIGN) | dict.fromkeys(APOSTROPHES, _APOSTROPHE)
    found["\u00a0"] = 2 * _SIGN
    for letter, weight in zip(letters, weights, strict=True):
        found[letter] = -math.log2(weight / total)
        if len(letter.upper()) == 1:
            found.setdefault(letter.upper(), found[letter])
    return found


def _east_asian_bits(character: str, encoding: str) -> float:
    if "\u3040" <= character <= "\u30ff":
        return _KANA if encoding in ("cp932", "euc_jp") else _RARE_HAN
    if "\uac00" <= character <= "\ud7a3":
        return _HANGUL if encoding == "cp949" and character.encode("cp949")[0] in range(0xB0, 0xC9) else _RARE_HAN
    if "\u4e00" <= character <= "\u9fff":
        return _COMMON_HAN if _is_common(character, encoding) else _RARE_HAN
    if "\u3000" <= character <= "\u303f" or "\uff01" <= character <= "\uff5e":
        return _SIGN
    return _UNEXPECTED


def _is_common(character: str, encoding: str) -> bool:
    """Return whether the character is among the frequent ones, which each standard lists first."""
    code = character.encode(encoding)
    first = code[0]
    if encoding == "gb18030":
        return len(code) == 2 and 0xB0 <= first <= 0xD7 and code[1] >= 0xA1
    if encoding == "big5":
        return 0xA4 <= first <= 0xC6
    if encoding == "cp932":
        return 0x88 <= first <= 0x97
    return encoding == "euc_jp" and 0xB0 <= first <= 0xCF


def _difference(one: str, other: str) -> tuple[str, str]:
    """Return the first words in which two texts differ."""
    for pair in _pairs(one.split(), other.split()):
        if pair[0] != pair[1]:
            return pair[0][:40], pair[1][:40]
    return one[:40], other[:40]


def _pairs(one: Iterable[str], other: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from zip(one, other, strict=False)
