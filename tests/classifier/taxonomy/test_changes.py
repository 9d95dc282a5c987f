from classifier.taxonomy.changes import ChangeKind, KnownCategory, TreeChanges, compare
from classifier.taxonomy.tree import Tree, TreeNode


def tree(*nodes: tuple[str, str, str], scheme: str = "shop") -> Tree:
    found = Tree(scheme)
    for key, name, parent in nodes:
        found.add(TreeNode(key, name, parent))
    return found


def kinds(changes: TreeChanges) -> list[tuple[str, str]]:
    return [(change.kind.value, change.key) for change in changes.changes]


HOME = KnownCategory("shop:1", "Home")
PANS = KnownCategory("shop:2", "Pans", "shop:1")


def test_the_same_tree_changes_nothing() -> None:
    assert kinds(compare(tree(("shop:1", "Home", ""), ("shop:2", "Pans", "shop:1")), [HOME, PANS])) == []


def test_what_is_added_renamed_moved_and_retired_is_told_apart() -> None:
    new = tree(("shop:3", "Kitchen", ""), ("shop:2", "Frying pans", "shop:3"))
    found = compare(new, [HOME, PANS])
    assert kinds(found) == [("add", "shop:3"), ("rename", "shop:2"), ("move", "shop:2"), ("retire", "shop:1")]
    assert (found.changes[1].before, found.changes[1].after) == ("Home > Pans", "Kitchen > Frying pans")


def test_a_category_with_the_same_whole_path_keeps_its_key() -> None:
    existing = [KnownCategory("electronics", "Electronics"), KnownCategory("beauty", "Beauty")]
    new = tree(("shop:222", "electronics", ""), ("shop:223", "Audio", "shop:222"))
    found = compare(new, existing)
    assert kinds(found) == [("rename", "electronics"), ("add", "shop:223")]
    assert found.nodes["electronics"].codes == {"shop": "222"}
    assert found.nodes["shop:223"].parent == "electronics"


def test_categories_of_another_scheme_stay_unless_the_tree_replaces_all() -> None:
    existing = [KnownCategory("beauty", "Beauty")]
    new = tree(("shop:1", "Home", ""))
    assert kinds(compare(new, existing)) == [("add", "shop:1")]
    assert kinds(compare(new, existing, replaces_all=True)) == [("add", "shop:1"), ("retire", "beauty")]


def test_a_redirect_to_one_category_merges_and_one_to_several_splits() -> None:
    new = tree(("shop:1", "Home", ""), ("shop:7", "Woks", "shop:1"), ("shop:8", "Pots", "shop:1"))
    lids = KnownCategory("shop:3", "Lids", "shop:1")
    found = compare(new, [HOME, PANS, lids], redirects={"shop:2": ["shop:7", "shop:8"], "shop:3": ["shop:8"]})
    assert kinds(found)[2:] == [("split", "shop:2"), ("merge", "shop:3")]
    assert found.redirects() == {"shop:3": "shop:8"}
    assert found.of_kind(ChangeKind.SPLIT)[0].after == "Home > Woks; Home > Pots"


def test_a_redirect_that_leads_nowhere_is_a_problem_and_changes_nothing() -> None:
    found = compare(tree(("shop:1", "Home", "")), [HOME, PANS], redirects={"shop:2": ["shop:9"], "shop:5": ["shop:1"]})
    assert kinds(found) == []
    assert len(found.problems) == 2


def test_a_retired_category_that_a_tree_has_again_is_restored() -> None:
    retired = KnownCategory("shop:2", "Pans", "shop:1", is_active=False)
    new = tree(("shop:1", "Home", ""), ("shop:2", "Pans", "shop:1"))
    assert kinds(compare(new, [HOME, retired])) == [("restore", "shop:2")]
