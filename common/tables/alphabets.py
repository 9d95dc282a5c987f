"""List the letters by which the encoding of a file that is not UTF-8 is recognised."""

from collections.abc import Mapping
from dataclasses import dataclass

# Letters that are not ASCII, the frequent ones first, small letters only.
LETTERS: Mapping[str, str] = {
    "German": "üäöß",
    "French": "éèàêçôîâûùïëœæüÿ",
    "Spanish": "óíáéñúü",
    "Portuguese": "ãçáéóíêâõúàôü",
    "Italian": "àèùìòéîó",
    "Dutch": "éëïöóüèê",
    "Swedish": "äåöé",
    "Danish": "åøæéóü",
    "Icelandic": "áíðéóöúýþæ",
    "Western": "éäüöóáíèàñçåøãêßúâôæëïîìòùûõœýðþÿšž",
    "Polish": "łąężćśóńź",
    "Czech": "íáéěýřčžšůúťňďó",
    "Slovak": "áíéčýžšúľťôňäďóĺŕ",
    "Hungarian": "áéőíöóüúű",
    "Romanian": "ăîâţşșț",
    "Croatian": "čšžćđ",
    "Turkish": "ıüşöğçâîû",
    "Lithuanian": "ėšžįųūčęą",
    "Latvian": "āīšēūņžčļģķ",
    "Estonian": "äõüöšž",
    "Russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфёъ",
    "Ukrainian": "оанівиеростклудмпязьбгхчйїжцшщюєфґ",
    "Bulgarian": "аиоетнрсвлкдпмзгъучбцящжшхйфюь",
    "Serbian": "аоиенрстујквдмплзгбшчцњхћжљђфџ",
    "Greek": "αοιετσνηυρπκμλςάίόέωύδγήχθώφβξζψϊϋΐΰ",
    "Hebrew": "יוהלאמרתבנשדעקחטפצכםסגזןץךף",
    "Arabic": "الينمرتوبعدفسهكقحجأةشطخصذغىئثضزإءظآؤ",
    "Persian": "ایرنتدهموشبسلکزآگخفپقحعجچغصطضژثذظئء",
    "Thai": "านรอกเงมยลวดท่สตะปบคหแจพ้ชขใไโผซีิัื็ุูำ์ณศฐญธษภถฉฝฟฎฏฆฒฌฬฮๆฯฤ๊๋",
}
_WESTERN = (
    "German", "French", "Spanish", "Portuguese", "Italian", "Dutch", "Swedish", "Danish", "Icelandic", "Western",
)  # fmt: skip
_CENTRAL = ("Polish", "Czech", "Slovak", "Hungarian", "Romanian", "Croatian", "German")
_CYRILLIC = ("Russian", "Ukrainian", "Bulgarian", "Serbian")


@dataclass(frozen=True)
class Candidate:
    """An encoding, the languages that are written in it, and how rarely it is met today, in bits."""

    encoding: str
    languages: tuple[str, ...]
    rarity: int = 0


CANDIDATES = (
    Candidate("cp1252", _WESTERN),
    Candidate("cp1250", _CENTRAL, 3),
    Candidate("cp1251", _CYRILLIC, 1),
    Candidate("cp1253", ("Greek",), 3),
    Candidate("cp1254", ("Turkish", "German", "French"), 4),
    Candidate("cp1255", ("Hebrew",), 3),
    Candidate("cp1256", ("Arabic", "Persian"), 3),
    Candidate("cp1257", ("Lithuanian", "Latvian", "Estonian"), 5),
    Candidate("cp874", ("Thai",), 3),
    Candidate("iso8859_15", _WESTERN, 5),
    Candidate("iso8859_2", _CENTRAL, 6),
    Candidate("iso8859_5", _CYRILLIC, 6),
    Candidate("iso8859_7", ("Greek",), 5),
    Candidate("koi8_u", _CYRILLIC, 4),
    Candidate("cp866", _CYRILLIC, 5),
    Candidate("cp850", _WESTERN, 7),
    Candidate("cp852", _CENTRAL, 8),
    Candidate("mac_roman", _WESTERN, 6),
    Candidate("mac_cyrillic", _CYRILLIC, 8),
    Candidate("cp932", ("Japanese",), 2),
    Candidate("euc_jp", ("Japanese",), 6),
    Candidate("gb18030", ("Chinese",), 2),
    Candidate("big5", ("Chinese",), 3),
    Candidate("cp949", ("Korean",), 2),
)
EAST_ASIAN = ("cp932", "euc_jp", "gb18030", "big5", "cp949")
# Signs that programs write into texts of any language, beside letters or between them.
APOSTROPHES = "\u2019\u00b4\u2018\u00b7\u00ad"
SIGNS = (
    "\u201c\u201d\u201e\u201a\u2013\u2014\u2026\u2022\u20ac\u00a3\u00a9\u00ae\u2122\u00b0\u00b2\u00b3\u00bd\u00bc\u00be\u00d7"
    "\u00a7\u00ab\u00bb\u00bf\u00a1\u00ba\u00aa\u00a0\u2116\u00b5\u2030\u00b9\u00b1\u00a2\u00a5\u00f7"
)
