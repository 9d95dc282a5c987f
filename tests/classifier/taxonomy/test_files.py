import gzip
import json
from pathlib import Path

import pytest

from classifier.taxonomy import tree as tree_module
from classifier.taxonomy.files import read_tree
from classifier.taxonomy.tree import Tree, TreeError


def paths(tree: Tree) -> dict[str, str]:
    return {key: " > ".join(tree.path(key)) for key in tree.nodes}


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_googles_listing_is_read_with_its_ids_and_version(tmp_path: Path) -> None:
    text = "# Google_Product_Taxonomy_Version: 2021-09-21\n1 - Animals\n3 - Animals > Pets > Fish\n"
    tree = read_tree(written(tmp_path, "taxonomy.txt", text))
    assert (tree.scheme, tree.version) == ("google", "2021-09-21")
    assert paths(tree) == {
        "google:1": "Animals",
        "google:animals/pets": "Animals > Pets",  # which no line describes
        "google:3": "Animals > Pets > Fish",
    }


def test_shopifys_listing_is_read_gzipped_with_names_in_another_language(tmp_path: Path) -> None:
    for language, name in (("en", "Bird Supplies"), ("de", "Vogelbedarf")):
        line = "# Categories: 2025-08\ngid://shopify/TaxonomyCategory/ap   : Pets\n" if language == "en" else ""
        line += f"gid://shopify/TaxonomyCategory/ap-2 : {'Pets' if language == 'en' else 'Tiere'} > {name}\n"
        (tmp_path / f"{language}.txt.gz").write_bytes(gzip.compress(line.encode()))
    tree = read_tree(tmp_path / "en.txt.gz", languages={"de": tmp_path / "de.txt.gz"})
    assert paths(tree) == {"shopify:ap": "Pets", "shopify:ap-2": "Pets > Bird Supplies"}
    assert tree.nodes["shopify:ap-2"].names == {"de": "Vogelbedarf"}
    assert tree.problems == ["de: 1 categories have no name in this language."]


@pytest.mark.parametrize(
    "text",
    [
        "path\nHome\nHome > Pans > Woks\nHome > Pans\n",
        "level 1,level 2,level 3\nHome,,\nHome,Pans,Woks\nHome,Pans,\n",
        "Path;Other\nHome;1\nHome > Pans > Woks;2\nHome > Pans;3\n",
    ],
)
def test_a_table_of_paths_or_levels_is_read_in_any_order(tmp_path: Path, text: str) -> None:
    tree = read_tree(written(tmp_path, "own.csv", text))
    assert paths(tree) == {
        "own:home": "Home",
        "own:home/pans": "Home > Pans",
        "own:home/pans/woks": "Home > Pans > Woks",
    }


def test_a_table_of_parents_is_read_with_synonyms_and_languages(tmp_path: Path) -> None:
    text = "id,name,parent,name_de,synonyms,synonyms_de\n7,Pans,1,Pfannen,skillets | woks,Tiegel\n1,Home,,,,\n"
    tree = read_tree(written(tmp_path, "own.csv", text))
    assert paths(tree) == {"own:1": "Home", "own:7": "Home > Pans"}
    pans = tree.nodes["own:7"]
    assert (pans.names, pans.synonyms) == ({"de": "Pfannen"}, {"": ("skillets", "woks"), "de": ("Tiegel",)})


def test_names_that_differ_only_in_signs_or_script_stay_apart(tmp_path: Path) -> None:
    tree = read_tree(written(tmp_path, "own.csv", 'path\nC\nC++\nИгрушки\nОдежда\nA & B\n"A, B"\n'))
    assert sorted(paths(tree).values()) == sorted(["C", "C++", "Игрушки", "Одежда", "A & B", "A, B"])
    again = read_tree(written(tmp_path, "again.csv", "path\nОдежда\nC++\n"))
    assert again.nodes.keys() <= tree.nodes.keys()


def test_a_category_under_two_parents_keeps_the_first(tmp_path: Path) -> None:
    listed = [
        {"id": "a", "name": "TV", "path": [{"id": "a"}], "subCategories": [{"id": "c", "name": "Cables"}]},
        {"id": "b", "name": "Audio", "path": [{"id": "b"}], "subCategories": [{"id": "c", "name": "Cables"}]},
        {"id": "c", "name": "Cables", "path": [{"id": "a"}, {"id": "c"}]},
    ]
    tree = read_tree(written(tmp_path, "shop.json", json.dumps(listed)))
    assert paths(tree)["own:c"] == "TV > Cables"
    assert [(each.key, each.path) for each in tree.alias_paths] == [("own:c", ("Audio", "Cables"))]


def test_ancestors_that_only_paths_name_are_added(tmp_path: Path) -> None:
    path = [{"id": "a", "name": "TV"}, {"id": "b", "name": "Parts"}, {"id": "c", "name": "Cables"}]
    tree = read_tree(written(tmp_path, "shop.json", json.dumps([{"id": "c", "name": "Cables", "path": path}])))
    assert paths(tree) == {"own:a": "TV", "own:b": "TV > Parts", "own:c": "TV > Parts > Cables"}


def test_what_can_not_be_a_category_is_reported_with_its_line(tmp_path: Path) -> None:
    deep = " > ".join(f"level {number}" for number in range(20))
    tree = read_tree(written(tmp_path, "own.csv", f"path\nHome\nHome\nHome >  > Pans\n{deep}\n{'x' * 201}\n"))
    assert list(paths(tree).values()) == ["Home"]
    assert [problem.partition(":")[0] for problem in tree.problems] == ["line 3", "line 4", "line 5", "line 6"]


def test_a_circle_of_parents_is_reported_and_ends(tmp_path: Path) -> None:
    text = "id,name,parent\n1,Home,\n2,A,3\n3,B,2\n4,Lost,99\n"
    tree = read_tree(written(tmp_path, "own.csv", text))
    assert paths(tree) == {"own:1": "Home", "own:4": "Lost"}
    assert len(tree.problems) == 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tree.json", "{", "is no JSON"),
        ("tree.json", '{"categories": 3}', "has no list of categories"),
        ("tree.json", "[" * 100_000, "is no JSON"),
        ("tree.csv", "colour,size\nred,3\n", "No column says where a category is"),
        ("tree.txt", "hello\n", "has no category. line 1"),
    ],
)
def test_a_file_that_is_no_tree_is_refused_in_words(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(TreeError, match=words):
        read_tree(written(tmp_path, name, text))


def test_a_file_that_unpacks_to_far_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifier.taxonomy.files.MOST_BYTES", 1_000_000)
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(b"1 - A\n" * 1_000_000))
    with pytest.raises(TreeError, match="is larger than 1 MB"):
        read_tree(tmp_path / "bomb.txt.gz")


def test_a_tree_of_too_many_categories_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "MOST_NODES", 3)
    with pytest.raises(TreeError, match="more than 3 categories"):
        read_tree(written(tmp_path, "own.csv", "path\nA\nB\nC\nD\n"))
