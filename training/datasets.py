"""Labelled products read from folders of csv and zip, and their split into train, validation and test."""

import csv
import gzip
import hashlib
import io
import re
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

Split = Literal["train", "validation", "test"]

# Up to which hundredth of the hash a product belongs to which part.
SPLITS: tuple[tuple[int, Split], ...] = ((70, "train"), (80, "validation"), (100, "test"))

# Word sets that share this much are the same product for the split: a size or a colour apart.
SAME_TITLE = 0.75

# A word in more titles than this says nothing about which titles to compare.
COMMON_WORD = 200


@dataclass(frozen=True)
class Product:
    """One labelled product: `label` is a category slug, `member` of `archive` its photograph."""

    dataset: str
    id: str
    title: str
    description: str
    label: str
    group: str = ""
    archive: Path | None = None
    member: str = ""
    digest: str = ""
    split: Split = "train"

    @property
    def has_text(self) -> bool:
        return bool(self.title or self.description)

    @property
    def has_image(self) -> bool:
        return self.archive is not None


def slug(name: str) -> str:
    """Return the slug that Django's slugify makes: "Patio, Lawn & Garden" -> "patio-lawn-garden"."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_name.lower())).strip("-_")


def read_products(root: Path) -> list[Product]:
    """Return every product under `root` (one folder a data set) that has a label in `mapped18`, split.

    Raises FileNotFoundError when there is no data set.
    """
    folders = sorted(root.iterdir()) if root.is_dir() else []
    tables = [table for folder in folders if (table := _table(folder))]
    if not tables:
        raise FileNotFoundError(f"{root} holds no folder with a products.csv")
    return assign_splits([product for table in tables for product in _read_table(table)])


def assign_splits(products: Sequence[Product]) -> list[Product]:
    """Return the products with `split` set: near-equal titles and equal photographs stay together.

    The part follows from a hash of the smallest key in the group, so the same products always fall the same
    way, whatever their order.
    """
    roots = _Sets(len(products))
    for same in (_same_values(products), _near_titles(products)):
        for first, second in same:
            roots.join(first, second)
    keys: dict[int, str] = {}
    for row, product in enumerate(products):
        root, key = roots.find(row), f"{product.dataset}/{product.group or product.id}"
        keys[root] = min(keys.get(root, key), key)
    return [replace(product, split=_part(keys[roots.find(row)])) for row, product in enumerate(products)]


def open_images(products: Iterable[Product]) -> Iterator[Image.Image]:
    """Yield each product's photograph, read straight from its archive. Raises ValueError for one without."""
    archives: dict[Path, zipfile.ZipFile] = {}
    try:
        for product in products:
            if product.archive is None:
                raise ValueError(f"{product.dataset}/{product.id} has no photograph")
            if product.archive not in archives:
                archives[product.archive] = zipfile.ZipFile(product.archive)
            yield Image.open(io.BytesIO(archives[product.archive].read(product.member)))
    finally:
        for archive in archives.values():
            archive.close()


def _table(folder: Path) -> Path | None:
    paths = (folder / name for name in ("products.csv", "products.csv.gz"))
    return next((path for path in paths if path.is_file()), None)


def _read_table(table: Path) -> Iterator[Product]:
    folder = table.parent
    digests = dict(_digests(folder))
    raw = table.read_bytes()
    text = (gzip.decompress(raw) if table.suffix == ".gz" else raw).decode("utf-8")
    for row in csv.DictReader(io.StringIO(text, newline="")):
        if not row["mapped18"]:
            continue
        digest = digests.get((row.get("shard", ""), row["image"]), "")
        untitled = not row["title"] and not row["description"]
        yield Product(
            dataset=folder.name,
            id=row["id"],
            title=row["title"],
            description=row["description"],
            label=slug(row["mapped18"]),
            # Photographs of one kind of fruit, taken on one walk through a shop, are nearly the same.
            group=row["subcategory"] if untitled else "",
            archive=folder / row["shard"] if digest else None,
            member=row["image"] if digest else "",
            digest=digest,
        )


def _digests(folder: Path) -> Iterator[tuple[tuple[str, str], str]]:
    for path in sorted(folder.glob("images-*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield (path.name, name), hashlib.sha256(archive.read(name)).hexdigest()


def _part(key: str) -> Split:
    hundredth = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    return next(split for limit, split in SPLITS if hundredth < limit)


class _Sets:
    """Disjoint sets of row numbers."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, row: int) -> int:
        while self.parent[row] != row:
            self.parent[row] = self.parent[self.parent[row]]
            row = self.parent[row]
        return row

    def join(self, first: int, second: int) -> None:
        self.parent[self.find(second)] = self.find(first)


def _same_values(products: Sequence[Product]) -> Iterator[tuple[int, int]]:
    seen: dict[tuple[str, ...], int] = {}
    for row, product in enumerate(products):
        for key in (
            ("photograph", product.digest) if product.digest else None,
            ("group", product.dataset, product.group) if product.group else None,
            ("title", " ".join(sorted(_words(product.title)))) if _words(product.title) else None,
        ):
            if key:
                yield seen.setdefault(key, row), row


def _near_titles(products: Sequence[Product]) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows whose titles' word sets have a Jaccard index of at least SAME_TITLE.

    Titles are compared only when they share one of their rarest words: two sets that overlap by 3/4 share at
    least one of the rarest quarter (the prefix filter of set-similarity joins), so no such pair is missed, save
    among words that are everywhere.
    """
    words = [_words(product.title) for product in products]
    counts: dict[str, int] = defaultdict(int)
    for row_words in words:
        for word in row_words:
            counts[word] += 1
    bucket: dict[str, list[int]] = defaultdict(list)
    for row, row_words in enumerate(words):
        rare = sorted(row_words, key=lambda word: (counts[word], word))
        rare = rare[: len(rare) - int(SAME_TITLE * len(rare)) + 1]
        prefix = [word for word in rare if counts[word] <= COMMON_WORD]
        candidates = {other for word in prefix for other in bucket[word]}
        for other in candidates:
            shared = len(row_words & words[other])
            if shared >= SAME_TITLE * (len(row_words) + len(words[other]) - shared):
                yield other, row
        for word in prefix:
            bucket[word].append(row)


def _words(title: str) -> frozenset[str]:
    """Return a title's words without case, digits and single letters: "Sock, 3 L" is "sock 5-M"."""
    text = unicodedata.normalize("NFKC", title).casefold()
    return frozenset(word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 1)
