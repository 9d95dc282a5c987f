"""Draw made-up products from the demo's list of kinds and from the reference products that come with Aisle."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from classifier.services import STARTER_REFERENCE

KINDS = Path(__file__).with_name("products.csv")
GROCERIES = "grocery-gourmet-food"
BRANDS = (
    "Alvery", "Birchmoor", "Caldfell", "Dunmark", "Eastlyn", "Farrowby", "Glenvik", "Halden & Co", "Ivorell", "Jorvane",
    "Kestrel", "Lindholt", "Marwick", "Nordhelm", "Oakrise", "Pellworth", "Quillan", "Rosmere", "Sandvale", "Tamberly",
    "Underhay", "Velden", "Wexcombe", "Yarrow", "Zellinger",
)  # fmt: skip
BRAND_SHARE, DESCRIPTION_SHARE, REFERENCE_SHARE = 0.45, 0.65, 0.3


@dataclass(frozen=True)
class Kind:
    """A kind of product; `category` is a slug, or empty where no category fits and a seller would request one."""

    group: str
    category: str
    requested: str
    title: str
    variants: tuple[str, ...]
    description: str
    photo: str


@dataclass(frozen=True)
class DrawnProduct:
    """One product as a seller would list it, with the category that is right for it."""

    title: str
    description: str
    category: str
    requested: str
    photo: Path | None


class Catalogue:
    """All kinds, by what the demo asks for. Drawing twice with the same random numbers gives the same products."""

    def __init__(self) -> None:
        with KINDS.open(encoding="utf-8", newline="") as file:
            self._kinds = [_kind(row) for row in csv.DictReader(file)]

    def draw(self, chance: random.Random, *, category: str) -> DrawnProduct:
        """Return a product of a category, sometimes one of the reference products."""
        references = self._references.get(category, [])
        if references and chance.random() < REFERENCE_SHARE:
            return chance.choice(references)
        kinds = [kind for kind in self._group("usual") if kind.category == category and not kind.photo]
        return _product(chance.choice(kinds), chance)

    def draw_with_photo(self, chance: random.Random) -> DrawnProduct:
        """Return a product with a photo; all photos show groceries."""
        kinds = [kind for kind in self._group("usual") if kind.photo]
        return _product(chance.choice(kinds), chance)

    def draw_german(self, chance: random.Random) -> DrawnProduct:
        """Return a product with a German title and description."""
        return _product(chance.choice(self._group("german")), chance, brand_share=0.2, description_share=1.0)

    def draw_without_category(self, chance: random.Random) -> DrawnProduct:
        """Return a product that fits none of the categories."""
        return _product(chance.choice(self._group("no category")), chance)

    def labelled(self, chance: random.Random, count: int) -> list[DrawnProduct]:
        """Return products without photos, of every category in turn, for training."""
        kinds = [kind for kind in self._group("usual") if not kind.photo]
        categories = sorted({kind.category for kind in kinds})
        found = []
        for number in range(count):
            category = categories[number % len(categories)]
            own = [kind for kind in kinds if kind.category == category]
            found.append(_product(chance.choice(own), chance))
        return found

    def _group(self, name: str) -> Sequence[Kind]:
        return [kind for kind in self._kinds if kind.group == name]

    @cached_property
    def _references(self) -> dict[str, list[DrawnProduct]]:
        """The texts of the reference products' replay part: the other part measures versions and must stay unseen."""
        found: dict[str, list[DrawnProduct]] = {}
        with (STARTER_REFERENCE / "products.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["part"] == "replay" and row["title"]:
                    product = DrawnProduct(row["title"], row["description"], row["category"], "", None)
                    found.setdefault(row["category"], []).append(product)
        return found


def _kind(row: dict[str, str]) -> Kind:
    return Kind(**{**row, "variants": tuple(row["variants"].split(";"))})  # type: ignore[arg-type]


def _product(
    kind: Kind,
    chance: random.Random,
    *,
    brand_share: float = BRAND_SHARE,
    description_share: float = DESCRIPTION_SHARE,
) -> DrawnProduct:
    title = kind.title[0].upper() + kind.title[1:]
    if chance.random() < brand_share:
        title = f"{chance.choice(BRANDS)} {kind.title}"
    if chance.random() < 0.8:
        title = f"{title}, {chance.choice(kind.variants)}"
    return DrawnProduct(
        title=title,
        description=kind.description if chance.random() < description_share else "",
        category=kind.category,
        requested=kind.requested,
        photo=STARTER_REFERENCE / "photos" / kind.photo if kind.photo else None,
    )
