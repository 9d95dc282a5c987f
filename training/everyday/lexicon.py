"""Read the lexicon: product nouns with the category in which a shop lists them.

The English nouns are those of `classifier.taxonomy.product_nouns`; `languages/` has a file for each other language.
`compounds.txt` lists compounds whose parts suggest another category; `accessories.txt` lists accessories and spare
parts with the products that they are for; `uncategorised.txt` lists nouns that fit no category. `shopify.txt` holds
names of Shopify's product taxonomy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from classifier.taxonomy.product_nouns import product_nouns, split_names

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class AccessoryGroup:
    """Products of one category, and the accessories that are sold where they are."""

    category: str
    hosts: tuple[str, ...]
    accessories: tuple[str, ...]


@dataclass(frozen=True)
class UncategorisedGroup:
    """Nouns that fit none of the categories, and the categories that are nearest."""

    nearest: tuple[str, ...]
    nouns: tuple[str, ...]


@cache
def english_nouns() -> dict[str, tuple[str, ...]]:
    """Return the English nouns and compounds of each category, by its slug."""
    compounds = {slug: split_names(names) for slug, names in _entries(FOLDER / "compounds.txt")}
    return {slug: tuple(dict.fromkeys((*nouns, *compounds.get(slug, ())))) for slug, nouns in product_nouns().items()}


@cache
def taxonomy_names() -> dict[str, tuple[str, ...]]:
    """Return names of Shopify's product taxonomy by the slug of the category that their branch stands for."""
    return {slug: split_names(names) for slug, names in _entries(FOLDER / "shopify.txt")}


@cache
def foreign_nouns() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the nouns of each other language by the category's slug, by the language's ISO 639-1 code."""
    languages = {}
    for path in sorted(FOLDER.glob("languages/*.txt")):
        languages[path.stem] = {slug: split_names(names) for slug, names in _entries(path)}
    return languages


@cache
def accessory_groups() -> tuple[AccessoryGroup, ...]:
    """Return accessories and their hosts, a group for each category."""
    groups = []
    for category, content in _entries(FOLDER / "accessories.txt"):
        hosts, accessories = content.split("|")
        groups.append(AccessoryGroup(category, split_names(hosts), split_names(accessories)))
    return tuple(groups)


@cache
def uncategorised_groups() -> tuple[UncategorisedGroup, ...]:
    """Return the nouns that fit no category."""
    entries = _entries(FOLDER / "uncategorised.txt")
    return tuple(UncategorisedGroup(split_names(nearest), split_names(nouns)) for nearest, nouns in entries)


@cache
def decorated_things() -> dict[str, tuple[str, ...]]:
    """Return things that are sold with any motif, by the slug of their category."""
    return {slug: split_names(things) for slug, things in _entries(FOLDER / "decorated.txt")}


@cache
def foreign_words() -> dict[str, tuple[str, ...]]:
    """Return the words that stand beside nouns, by the language's code."""
    return {language: split_names(names) for language, names in _entries(FOLDER / "foreign_words.txt")}


@cache
def words(kind: str) -> tuple[str, ...]:
    """Return the words of a kind, as words.txt names it. Raises KeyError for an unknown kind."""
    return {key: split_names(names) for key, names in _entries(FOLDER / "words.txt")}[kind]


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield what stands before and after the first colon of each line that is no comment."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            key, content = line.split(":", 1)
            yield key.strip(), content
