import io
from pathlib import Path

import pytest

from common.tables.encodings import find_encoding
from common.tables.errors import SourceError

HEADER = "id;title;category\n"
GERMAN = "Schönes Kleid für Mädchen, größer"
RUSSIAN = "Женское платье летнее, корм для собак"
TITLES = {
    "cp1252": [
        "Women’s dress – “Élan”, was 49 €",
        GERMAN,
        "Théière émaillée à l’ancienne",
        "Camión de juguete para niños ¡nuevo!",
        "Rød kjole til børn på 6 år",
        "Mountain bike £120, like new; case £5, 30° turn, 16 GB¹",
    ],
    "mac_roman": [GERMAN],
    "cp850": [GERMAN],
    "cp1250": ["Żółta książka dla dzieci, łyżka", "Dětské šaty žluté, příbor z oceli"],
    "cp1251": [RUSSIAN, "Дитяча сукня жовта, їжа для собак", "Детска рокля жълта"],
    "koi8_r": [RUSSIAN],
    "cp866": [RUSSIAN],
    "cp1253": ["Παιδικό φόρεμα κίτρινο"],
    "cp1254": ["Çocuk elbisesi sarı ışıklı, güneş gözlüğü"],
    "cp1255": ["שמלת ילדים צהובה"],
    "cp1256": ["فستان أطفال أصفر"],
    "cp874": ["ชุดเด็กสีเหลือง"],
    "cp932": ["子供用ドレス 黄色"],
    "gb18030": ["儿童黄色连衣裙 木制玩具火车"],
    "big5": ["兒童黃色連衣裙"],
    "cp949": ["어린이 노란 드레스"],
}


def encoding_of(content: bytes, given: str = "") -> str:
    return find_encoding(io.BytesIO(content), Path("products.csv"), given)


@pytest.mark.parametrize("encoding", TITLES)
def test_titles_in_an_old_encoding_are_read_as_they_were_written(encoding: str) -> None:
    for title in TITLES[encoding]:
        content = f"{HEADER}1;{title};Toys & Games\r\n".encode(encoding)
        assert content.decode(encoding_of(content)) == content.decode(encoding)


@pytest.mark.parametrize(
    ("title", "encoding"), [("Œuvre", "cp1252"), ("Schönheit", "cp850"), ("Õhupall", "cp1257"), ("КОРМ", "koi8_r")]
)
def test_one_word_that_reads_well_in_two_encodings_is_refused(title: str, encoding: str) -> None:
    content = f"{HEADER}1;{title};Toys\n".encode(encoding)
    with pytest.raises(SourceError, match="--encoding"):
        encoding_of(content)
    assert encoding_of(content, encoding) == encoding.replace("koi8_r", "koi8-r")


def test_bytes_that_no_language_explains_are_refused() -> None:
    with pytest.raises(SourceError, match="can't be recognised"):
        encoding_of(HEADER.encode() + bytes(range(128, 256)) * 3)


def test_damaged_utf_8_is_refused_instead_of_becoming_nonsense() -> None:
    content = f"{HEADER}1;{GERMAN};Toys\n".encode() + b"2;caf\xe9;Toys\n"
    with pytest.raises(SourceError, match="UTF-8 except for a few bytes such as 0xE9"):
        encoding_of(content)


@pytest.mark.parametrize(
    ("given", "word"), [("klingon", "no such"), ("hex", "no encoding of text"), ("ascii", "can't be read as ASCII")]
)
def test_an_encoding_that_is_given_must_fit(given: str, word: str) -> None:
    with pytest.raises(SourceError, match=word):
        encoding_of("é".encode(), given)


def test_an_encoding_that_is_given_is_taken() -> None:
    assert encoding_of("Корм".encode("koi8_r"), "koi8-r") == "koi8-r"
    assert encoding_of("é".encode(), "UTF8") == "utf-8-sig"
