"""Compare a tree with the categories that exist: what is added, renamed, moved, merged, split and retired."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from classifier.taxonomy.tree import PATH_SIGN, Tree, TreeNode, path_identity


class ChangeKind(StrEnum):
    ADD = "add"
    RENAME = "rename"
    MOVE = "move"
    MERGE = "merge"
    SPLIT = "split"
    RETIRE = "retire"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class KnownCategory:
    """A category as it exists: `is_active` unless it was retired or redirected."""

    key: str
    name: str
    parent: str = ""
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one category; `before` and `after` are paths, `targets` the keys that take a category's place."""

    kind: ChangeKind
    key: str
    before: str = ""
    after: str = ""
    targets: tuple[str, ...] = ()


@dataclass
class TreeChanges:
    """The changes that make the categories those of a tree, and the nodes as they will be.

    `nodes` are the tree's, with the keys that existing categories keep: a category whose whole path a file gives
    another key is the same category, and the file's key becomes its code in that scheme.
    """

    nodes: dict[str, TreeNode] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def of_kind(self, kind: ChangeKind) -> list[Change]:
        return [change for change in self.changes if change.kind == kind]

    def counts(self) -> dict[str, int]:
        """Return how many changes there are of each kind."""
        return {kind.value: len(self.of_kind(kind)) for kind in ChangeKind}

    def redirects(self) -> dict[str, str]:
        """Return the key that takes the place of each merged category."""
        return {change.key: change.targets[0] for change in self.of_kind(ChangeKind.MERGE)}


class CategoryPaths:
    """The paths of existing categories."""

    def __init__(self, categories: Iterable[KnownCategory]) -> None:
        self.by_key = {category.key: category for category in categories}

    def path(self, key: str) -> tuple[str, ...]:
        names: list[str] = []
        while key:
            names.append(self.by_key[key].name)
            key = self.by_key[key].parent
        return tuple(reversed(names))

    def shown(self, key: str) -> str:
        return PATH_SIGN.join(self.path(key))


def compare(
    tree: Tree,
    categories: Sequence[KnownCategory],
    *,
    redirects: Mapping[str, Sequence[str]] | None = None,
    replaces_all: bool = False,
) -> TreeChanges:
    """Return the changes that turn the existing categories into the tree.

    `redirects` name the keys of the tree that take the place of an existing category: one for a merge, several for a
    split. A category that the tree lacks is retired when its key is of the tree's scheme, or when the tree replaces
    all; others stay beside the tree.
    """
    known = CategoryPaths(categories)
    result = TreeChanges()
    redirects = dict(redirects or {})
    keys = _kept_keys(tree, known, redirects)
    for key, node in tree.nodes.items():
        kept = keys[key]
        codes = dict(node.codes) if kept == key else {**node.codes, tree.scheme: key.partition(":")[2]}
        parent = keys[node.parent] if node.parent else ""
        result.nodes[kept] = TreeNode(kept, node.name, parent, node.names, node.synonyms, codes)
    result.changes += _changes_of_nodes(tree, keys, known, result.nodes)
    result.changes += _changes_of_missing(tree, keys, known, redirects, replaces_all, result)
    return result


def _kept_keys(tree: Tree, known: CategoryPaths, redirects: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the key of each node: that of the existing category with the same path, or the file's."""
    by_path = {
        path_identity(known.path(key)): key
        for key, category in known.by_key.items()
        if category.is_active and key not in redirects
    }
    keys = {}
    for key in tree.nodes:
        same = by_path.get(path_identity(tree.path(key)))
        # A key that exists already says more than a path: its category may have been renamed or moved.
        keys[key] = same if same and key not in known.by_key and same not in tree.nodes else key
    return keys


def _changes_of_nodes(
    tree: Tree, keys: Mapping[str, str], known: CategoryPaths, nodes: Mapping[str, TreeNode]
) -> Iterator[Change]:
    for file_key, key in keys.items():
        node, category = nodes[key], known.by_key.get(key)
        after = PATH_SIGN.join(tree.path(file_key))
        if category is None:
            yield Change(ChangeKind.ADD, key, after=after)
            continue
        before = known.shown(key)
        if not category.is_active:
            yield Change(ChangeKind.RESTORE, key, before, after)
        if category.name != node.name:
            yield Change(ChangeKind.RENAME, key, before, after)
        if category.parent != node.parent:
            yield Change(ChangeKind.MOVE, key, before, after)


def _changes_of_missing(
    tree: Tree,
    keys: Mapping[str, str],
    known: CategoryPaths,
    redirects: Mapping[str, Sequence[str]],
    replaces_all: bool,
    result: TreeChanges,
) -> Iterator[Change]:
    for key, category in known.by_key.items():
        if key in result.nodes or not category.is_active:
            continue
        targets = [keys.get(target, target) for target in redirects.get(key, ())]
        missing = [target for target in targets if target not in result.nodes]
        if missing:
            result.problems.append(f"{key} is redirected to {missing[0]}, which the tree doesn't have.")
        elif targets:
            kind = ChangeKind.MERGE if len(targets) == 1 else ChangeKind.SPLIT
            yield Change(kind, key, known.shown(key), _shown(result, targets), tuple(targets))
        elif replaces_all or key.startswith(f"{tree.scheme}:"):
            yield Change(ChangeKind.RETIRE, key, known.shown(key))
    for key in redirects.keys() - known.by_key.keys():
        result.problems.append(f"{key} is redirected, but there is no such category.")


def _shown(result: TreeChanges, keys: Sequence[str]) -> str:
    paths = []
    for key in keys:
        names: list[str] = []
        while key:
            names.append(result.nodes[key].name)
            key = result.nodes[key].parent
        paths.append(PATH_SIGN.join(reversed(names)))
    return "; ".join(paths)
