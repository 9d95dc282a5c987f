from pathlib import Path

import pytest

from classifier.models import Category, CategoryAlias
from common.tables.errors import RowError, SourceError
from training.datasets.category_lookup import CategoryLookup

pytestmark = pytest.mark.django_db


def name_of(lookup: CategoryLookup, name: str) -> str:
    return Category.objects.get(pk=lookup.find(name)).name


def why_not(lookup: CategoryLookup, name: str) -> str:
    with pytest.raises(RowError) as refusal:
        lookup.find(name)
    return f"{refusal.value.reason}: {refusal.value}"


@pytest.mark.parametrize(
    "name",
    [
        "Toys & Games", "Toys and Games", "Toys &amp; Games", "Toys &amp;amp; Games", "TOYS & GAMES", "Toys&Games",
        "Toys\u00a0&\u00a0 Games ", "Toys & Games\u200b", "toys_games", "toys-games", "Toys + Games", "Toys ＆ Games",
        "Toys / Games", "𝗧𝗼𝘆𝘀 & Games", "<b>Toys</b> &#38; Games",
    ],
)  # fmt: skip
def test_a_category_is_found_however_its_name_is_written(name: str) -> None:
    assert name_of(CategoryLookup(), name) == "Toys & Games"


def test_names_that_differ_in_letters_or_signs_stay_apart() -> None:
    names = ["C", "C++", "C#", "Игрушки", "Одежда", "Игрушки 2", "おもちゃ", "Ages 3", "Ages 3+", "Spiel", "Spiele"]
    lookup = CategoryLookup(creates=True)
    assert [name_of(lookup, name) for name in names] == names == lookup.created
    again = CategoryLookup()
    assert [name_of(again, name.lower()) for name in names] == names
    slugs = [Category.objects.get(name=name).slug for name in names]
    assert len(set(slugs)) == len(names) and slugs[:3] == ["c", "c-2", "c-3"]


def test_a_name_that_is_loosely_like_two_categories_is_not_guessed() -> None:
    Category.objects.create(name="Audio, Video", slug="audio-comma-video")
    Category.objects.create(name="Audio & Video", slug="audio-and-video")
    lookup = CategoryLookup()
    assert name_of(lookup, "audio & video") == "Audio & Video"
    assert "may be any of 2 categories" in why_not(lookup, "Audio/Video")


def test_names_win_over_aliases_and_aliases_are_compared_alike() -> None:
    beauty = Category.objects.get(slug="beauty")
    CategoryAlias.objects.create(category=beauty, name="Schönheit & Pflege")
    CategoryAlias.objects.create(category=beauty, name="toys_and_games")
    lookup = CategoryLookup()
    assert name_of(lookup, "SCHÖNHEIT &amp; PFLEGE") == "Beauty"
    assert name_of(lookup, "Toys and Games") == "Toys & Games"


@pytest.mark.parametrize("name", ["", "  ", "nan", "N/A", "NULL"])
def test_a_placeholder_is_no_category(name: str) -> None:
    assert why_not(CategoryLookup(creates=True), name).startswith("no category")


@pytest.mark.parametrize(
    ("cell", "level", "name"),
    [
        ("Toys & Games > Trains", 1, "Toys & Games"),
        ("Shop > Toys and Games > Trains", 2, "Toys & Games"),
        ("Shop » Toys & Games", -1, "Toys & Games"),
        ("Clothing, Shoes & Jewelry > Women, Clothing, Shoes & Jewelry > Sale", 1, "Clothing, Shoes & Jewelry"),
        ("Default Category/Toys & Games/Trains,Default Category/Sale", 2, "Toys & Games"),
        ("Default Category,Default Category/Baby Products", 2, "Baby Products"),
        ("Toys & Games, Baby Products", 1, "Toys & Games"),
        ("Sale, Baby Products", 1, "Baby Products"),
        ('["Toys & Games >> Trains >> Wooden"]', 1, "Toys & Games"),
        ("Beauty", 3, "Beauty"),
    ],
)
def test_one_level_of_a_path_is_the_category(cell: str, level: int, name: str) -> None:
    assert name_of(CategoryLookup(level=level), cell) == name


def test_a_path_is_created_at_a_level_only() -> None:
    assert "choose a level with --category-level" in why_not(CategoryLookup(creates=True), "Hats > Caps")
    assert name_of(CategoryLookup(creates=True, level=2), "Hats > Caps") == "Caps"
    assert name_of(CategoryLookup(creates=True, level=2), "Hats > Bowlers, Sale > Hats") == "Bowlers"
    assert "has no level 2" in why_not(CategoryLookup(creates=True, level=2), "Scarves")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Quelle;Kategorie\nSpielzeug;toys-games\nSchönheit;beauty\n", "utf-8"),
        ("Spielzeug,toys-games\nSchönheit,beauty\nKüche und Bad,beauty\n", "cp1252"),
        ("sep=|\nSpielzeug|Toys and Games|x\n\n||\nSchönheit|Beauty|y\n", "utf-16"),
        ("Spielzeug\tToys & Games\nSchönheit\tbeauty\n", "utf-16-le"),
    ],
)
def test_a_map_is_read_as_product_files_are(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "map.csv").write_bytes(text.encode(encoding))
    lookup = CategoryLookup(map=tmp_path / "map.csv")
    assert (name_of(lookup, "SPIELZEUG"), name_of(lookup, "Schönheit")) == ("Toys & Games", "Beauty")
    assert lookup.mapped == 2


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Spielzeug\nTiere\n", "one column"),
        ("Name,Category\n", "no line with a name and a category"),
        ("a,beauty\nb,Crockery\n", "line 2.*Crockery"),
        ("a,beauty\nA,toys-games\n", "line 2.*there again"),
        ('a,beauty\n"b,beauty\n', "line 2.*quotation mark"),
        ("", "no line"),
    ],
)
def test_a_map_that_is_of_no_use_says_why(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(SourceError, match=word):
        CategoryLookup(map=tmp_path / "map.csv")


def test_a_map_wins_over_names_and_applies_to_levels(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("Beauty,toys-games\nTrains,Baby Products\n")
    lookup = CategoryLookup(map=tmp_path / "map.csv", level=2)
    assert (name_of(lookup, "Beauty"), name_of(lookup, "Toys > Trains")) == ("Toys & Games", "Baby Products")
