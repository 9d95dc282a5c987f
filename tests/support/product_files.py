"""Write product files as people hand them out, and import them."""

import csv
import gzip
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from common.tables.reader import ProductFile
from training.datasets.category_lookup import CategoryLookup
from training.datasets.importing import ImportReport, import_products

COLUMNS = ("id", "title", "description", "category", "image")


def plain_jpeg(colour: str | tuple[int, int, int] = "red", side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def write_table(
    folder: Path,
    rows: Iterable[Sequence[object]],
    *,
    columns: Sequence[str] = COLUMNS,
    name: str = "products.csv",
    encoding: str = "utf-8",
) -> Path:
    """Write a table into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    content = text.getvalue().encode(encoding)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def write_zip(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def import_table(
    folder: Path,
    *,
    source: str = "",
    map: Path | None = None,
    creates: bool = False,
    level: int | None = None,
    **columns: str,
) -> ImportReport:
    """Import a folder's products."""
    with ProductFile(folder, columns) as products:
        categories = CategoryLookup(map=map, creates=creates, level=level)
        return import_products(products=products, source=source, categories=categories)
