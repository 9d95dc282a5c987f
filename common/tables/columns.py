"""Find out which column of a table holds which field, by the names that shops and data sets give their columns."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from common.tables.errors import SourceError

# The names of each field in files, in order of preference; in small letters, without spaces and signs.
NAMES: Mapping[str, tuple[str, ...]] = {
    "id": (
        "id", "imgid", "imageid", "productid", "externalid", "uniqid", "itemid", "offerid", "asin", "parentasin",
        "asin1", "sku", "productsku", "handle", "handleid", "sellersku", "listingid", "itemnumber", "articlenumber",
        "productnumber", "artikelnummer", "artikelnr", "variantsku", "productcodesku", "code", "productcode",
        "productidnoneditable", "productinternalid", "reference", "referencia", "gtin", "ean", "upc",
    ),
    "title": (
        "title", "name", "productname", "producttitle", "itemname", "itemtitle", "listingtitle", "titel", "titre",
        "titulo", "titolo", "bezeichnung", "artikelbezeichnung", "nome", "nombre", "nom", "naam", "nazwa", "название",
        "имя", "наименование", "名称", "名前", "商品名",
    ),
    "description": (
        "description", "productdescription", "itemdescription", "bodyhtml", "longdescription", "desc", "text",
        "details", "aboutproduct", "shortdescription", "beschreibung", "descricao", "descripcion", "descrizione",
        "beschrijving", "opis", "описание", "描述", "説明",
    ),
    "category": (
        "category", "categories", "label", "class", "productcategory", "categoryname", "maincategory", "categorypath",
        "productcategorytree", "producttype", "googleproductcategory", "fbproductcategory", "maintaxon", "taxons",
        "collection", "collections", "department", "category1", "categoriesxyz", "zshopcategory1", "kategorie",
        "kategorien", "categorie", "categoria", "categorias", "categorieen", "kategoria", "категория", "категории",
        "分类", "カテゴリー", "type", "googleshoppinggoogleproductcategory",
    ),
    "image": (
        "image", "imagepath", "img", "photo", "photos", "picture", "pictures", "filename", "imagename", "imagefile",
        "images", "imagelink", "imagesrc", "imageurl", "imageurls", "mainimage", "baseimage", "photourl", "pictureurl",
        "imageurlsxyz", "image1", "productimage", "productimageurl", "hostedimageurls", "productimagefile1",
        "additionalimagelink", "bild", "bilder", "foto", "fotos", "imagem", "imagens", "imagen", "imagenes",
        "immagine", "immagini",
        "afbeelding", "afbeeldingen", "zdjecie", "zdjecia", "obrazek", "obrazki", "изображения", "изображение", "фото",
        "图片", "画像",
    ),
    "shard": ("shard", "archive", "zip"),
    "group": ("group", "subcategory"),
}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The names of the columns that are read; empty for those that the file doesn't have."""

    id: str = ""
    title: str = ""
    description: str = ""
    category: str = ""
    image: str = ""
    shard: str = ""
    group: str = ""


FIELDS = tuple(field.name for field in fields(Columns))


def column_key(name: str) -> str:
    """Return a column's name as it is compared: only its letters and digits, small and without accents."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(character for character in plain if character.isalnum())


def parse_columns(given: Iterable[str]) -> dict[str, str]:
    """Return the columns that a command's arguments FIELD=NAME name. Raises SourceError for another form."""
    columns: dict[str, str] = {}
    for item in given:
        field, separator, column = item.partition("=")
        if field not in NAMES or not separator or not column:
            raise SourceError(f"--column {item}: write FIELD=NAME, where FIELD is one of {', '.join(NAMES)}.")
        columns[field] = column
    return columns


def count_known(header: Sequence[str], given: Mapping[str, str]) -> int:
    """Return how many fields have a column in the header."""
    keys = {column_key(name) for name in header}
    names = [(given[field],) if field in given else NAMES[field] for field in FIELDS]
    return sum(1 for some in names if keys.intersection(map(column_key, some)))


def find_candidates(header: Sequence[str], table: Path, *, given: Mapping[str, str]) -> dict[str, list[int]]:
    """Return the places of the columns that may hold each field, in order of preference.

    `given` names some by field. Raises SourceError for a name that the header lacks, or has twice where it is needed.
    """
    candidates: dict[str, list[int]] = {}
    for field in FIELDS:
        if field in given:
            exact = [place for place, column in enumerate(header) if column == given[field]]
            found = [exact or _places(header, given[field])]
            if not found[0]:
                raise SourceError(f"{table} has no column {given[field]!r}. {_contents(header)}")
        else:
            found = [places for name in NAMES[field] if (places := _places(header, name))]
        if found and len(found[0]) > 1:
            raise SourceError(
                f"{table} has {len(found[0])} columns {header[found[0][0]]!r}: the columns "
                f"{', '.join(str(place + 1) for place in found[0])}. Rename all but the one to read."
            )
        candidates[field] = [places[0] for places in found]
    return candidates


def choose_columns(
    header: Sequence[str],
    table: Path,
    *,
    candidates: Mapping[str, Sequence[int]],
    filled: Collection[int],
    needed: Collection[str],
) -> dict[str, int]:
    """Return the place of each field's column: the first that has content, as shops export columns they don't use.

    Raises SourceError for a field of `needed` without a column.
    """
    places: dict[str, int] = {}
    for field, found in candidates.items():
        if found:
            places[field] = next((place for place in found if place in filled), found[0])
        elif field in needed:
            raise SourceError(
                f"{table} has no column for the {field}. {_contents(header)} Say which it is: --column {field}=NAME"
            )
    return places


def _places(header: Sequence[str], name: str) -> list[int]:
    """Return the places of the columns with this name, whatever their case, spaces and signs."""
    key = column_key(name)
    return [place for place, column in enumerate(header) if key and column_key(column) == key]


def _contents(header: Iterable[str]) -> str:
    return f"It has: {', '.join(name for name in header if name)}."
