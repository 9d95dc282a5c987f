"""Represent a category tree as a file describes it, before it is compared with the categories of the database."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from common.tables.category_names import exact_key

PATH_SIGN = " > "
LONGEST_KEY = 80  # characters
LONGEST_NAME = 200
DEEPEST = 12  # levels; the deepest known taxonomy, Shopify's, has 8
MOST_NODES = 50_000
MOST_PROBLEMS = 1_000  # that are listed; a hostile file has one in every line


class TreeError(Exception):
    """A file that describes no usable tree; the message says what to do."""


@dataclass(slots=True)
class TreeNode:
    """A category of a file: its key and its parent's (empty for a root), with its names.

    `names` and `synonyms` are by language, as IETF language tags; `name` is the one that is shown where a language has
    none. `codes` are its ids in other schemes.
    """

    key: str
    name: str
    parent: str = ""
    names: dict[str, str] = field(default_factory=dict)
    synonyms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AliasPath:
    """A second place at which a file lists a category: the tree keeps the first."""

    key: str
    path: tuple[str, ...]


@dataclass
class Tree:
    """The categories of a file by key, parents before their children, and what was wrong with the file."""

    scheme: str
    version: str = ""
    nodes: dict[str, TreeNode] = field(default_factory=dict)
    alias_paths: list[AliasPath] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0

    def add(self, node: TreeNode) -> None:
        """Add a category below its parent, which must be here. Raises TreeError for a tree that is too large."""
        if len(self.nodes) >= MOST_NODES:
            raise TreeError(f"This tree has more than {MOST_NODES:,} categories.")
        self.nodes[node.key] = node

    def report(self, problem: str) -> None:
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def path(self, key: str) -> tuple[str, ...]:
        """Return the names from the root to the category."""
        names: list[str] = []
        while key:
            node = self.nodes[key]
            names.append(node.name)
            key = node.parent
        return tuple(reversed(names))

    def depth(self, key: str) -> int:
        return len(self.path(key))

    def children(self) -> dict[str, list[str]]:
        """Return the keys of each category's children, in the file's order; those of the roots under an empty key."""
        found: dict[str, list[str]] = {"": []}
        for key, node in self.nodes.items():
            found.setdefault(key, [])
            found[node.parent].append(key)
        return found

    def leaves(self) -> Iterator[str]:
        return (key for key, children in self.children().items() if key and not children)


def path_identity(path: Sequence[str]) -> tuple[str, ...]:
    """Return a path as it is compared: whole names, whatever their case, spaces and Unicode form."""
    return tuple(map(exact_key, path))
