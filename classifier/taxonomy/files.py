"""Read category trees from the files in which taxonomies are published, and from tables of one's own."""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from classifier.taxonomy.tables import TreeColumns, TreeRow
from classifier.taxonomy.tree import (
    DEEPEST,
    LONGEST_KEY,
    LONGEST_NAME,
    PATH_SIGN,
    AliasPath,
    Tree,
    TreeError,
    TreeNode,
    path_identity,
)
from common.tables.dialect import TableRows, find_dialect, open_text
from common.tables.errors import RowError, SourceError
from common.text import clean_line

SCHEMES = ("google", "shopify", "csv", "json")
OWN = "own"  # the scheme of a tree that names none
TABLE_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
MOST_BYTES = 200_000_000  # of an unpacked file
_VERSION = re.compile(r"#.*?(\d{4}-\d\d(?:-[\w.]+)?)\s*$")
_GOOGLE = re.compile(r"(?P<id>\d+)\s+-\s+(?P<path>.+)")
_SHOPIFY = re.compile(r"gid://shopify/TaxonomyCategory/(?P<id>[\w-]+)\s*:\s*(?P<path>.+)")
_SIGNS = re.compile(r"\W+")
_HARMLESS_SIGNS = re.compile(r"[\s&,/'’().-]+")


def read_tree(path: Path, *, scheme: str = "", languages: Mapping[str, Path] | None = None) -> Tree:
    """Return the tree in a file: Google's or Shopify's listing, a table, or JSON; any of them may be gzipped.

    `scheme` names the form, one of SCHEMES, where it isn't recognised. `languages` are files of the same form with the
    names in other languages, by language. Raises TreeError for a file that can't be read as a tree.
    """
    if scheme and scheme not in SCHEMES:
        raise TreeError(f"{scheme!r} is no form of a tree: write one of {', '.join(SCHEMES)}.")
    try:
        tree = _read(path, scheme)
        for language, file in (languages or {}).items():
            _add_language(tree, language, _read(file, scheme))
    except SourceError as error:
        raise TreeError(str(error)) from error
    if not tree.nodes:
        raise TreeError(f"{path} has no category. {' '.join(tree.problems[:3])}".strip())
    return tree


def _read(path: Path, scheme: str) -> Tree:
    if scheme == "csv" or (not scheme and path.name.lower().endswith(TABLE_ENDINGS)):
        return _read_table(path)
    text = read_text(path)
    if scheme == "json" or (not scheme and text.lstrip()[:1] in ("{", "[")):
        return _read_json(text, path)
    if scheme == "shopify" or (not scheme and any(map(_SHOPIFY.match, text.splitlines()[:20]))):
        return _read_listing(text, Tree("shopify"), _SHOPIFY)
    return _read_listing(text, Tree("google"), _GOOGLE)


def read_text(path: Path) -> str:
    """Return a file's text, unpacked where it is gzipped. Raises TreeError."""
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = (gzip.GzipFile(fileobj=file) if is_packed else file).read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise TreeError(f"{path} can't be read: {error}") from error
    if len(content) > MOST_BYTES:
        raise TreeError(f"{path} is larger than {MOST_BYTES // 1_000_000} MB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TreeError(f"{path} is not UTF-8: its byte {error.start + 1:,} can't be read.") from error


def read_json(text: str, path: Path) -> Any:
    """Return the content of a JSON file. Raises TreeError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TreeError(f"{path} is no JSON: {error}") from error


def _read_listing(text: str, tree: Tree, pattern: re.Pattern[str]) -> Tree:
    """Read lines of an id and a path."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            found = _VERSION.match(line)
            tree.version = tree.version or (found[1] if found else "")
        elif line.strip():
            row = pattern.fullmatch(line.strip())
            if row:
                rows.append(TreeRow(number, row["id"], path=row["path"].split(PATH_SIGN)))
            else:
                tree.report(f"line {number}: {line.strip()[:80]!r} is no id and path.")
    _add_paths(tree, rows)
    return tree


def _read_table(path: Path) -> Tree:
    tree = Tree(OWN)
    dialect = find_dialect(path)
    rows = []
    with open_text(path, dialect.encoding) as lines:
        table = TableRows(lines, path, dialect)
        header = next(table, None)
        if header is None or isinstance(header, RowError):
            raise TreeError(f"{path} has no line with the names of its columns.")
        columns = TreeColumns(header)
        for cells in table:
            if isinstance(cells, RowError):
                tree.report(f"line {table.line}: {cells}")
            elif any(cell.strip() for cell in cells):
                rows.append(columns.row(table.line, cells))
    if any(row.path for row in rows):
        _add_paths(tree, rows)
    else:
        _add_children(tree, rows)
    return tree


def _read_json(text: str, path: Path) -> Tree:
    """Read Aisle's own export, or a list of objects with an id, a name, and a parent or a path."""
    content = read_json(text, path)
    listed = content.get("categories") if isinstance(content, dict) else content
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise TreeError(f'{path} has no list of categories: write [{{"id": ..., "name": ..., "parent": ...}}, ...].')
    about = content if isinstance(content, dict) else {}
    tree = Tree(str(about.get("scheme") or OWN), str(about.get("version") or ""))
    rows = list(_json_rows(listed))
    _add_children(tree, rows)
    return tree


def _json_rows(listed: Iterable[dict[str, Any]]) -> Iterator[TreeRow]:
    """Yield each category's row; then those of ancestors that only paths name, and one for each further place."""
    ancestors: dict[str, TreeRow] = {}
    children: list[TreeRow] = []
    known = set()
    for number, entry in enumerate(listed, 1):
        id = str(entry.get("key") or entry.get("id") or "")
        name = str(entry.get("name") or entry.get("label") or "")
        row = TreeRow(number, id, bool(entry.get("key")), name=name, names=_texts(entry.get("names")))
        row.synonyms = {key: tuple(map(str, words)) for key, words in _lists(entry.get("synonyms")).items()}
        if not isinstance(entry.get("path"), list) or row.has_keys:
            row.parent = str(entry.get("parent") or entry.get("parent_id") or entry.get("parentId") or "")
        for above in [each for each in _dicts(entry.get("path")) if each.get("id")][:-1]:
            found = TreeRow(number, str(above["id"]), name=str(above.get("name") or ""), parent=row.parent)
            ancestors.setdefault(found.id, found)
            row.parent = found.id
        known.add(id)
        yield row
        for child in _dicts(entry.get("subCategories")):
            children.append(TreeRow(number, str(child.get("id") or ""), name=str(child.get("name") or ""), parent=id))
    yield from (row for row in ancestors.values() if row.id not in known)
    yield from (row for row in children if row.id in known)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items() if text} if isinstance(value, dict) else {}


def _lists(value: Any) -> dict[str, list[Any]]:
    return (
        {str(key): words for key, words in value.items() if isinstance(words, list)} if isinstance(value, dict) else {}
    )


def _add_paths(tree: Tree, rows: Iterable[TreeRow]) -> None:
    """Add rows with paths. A parent may come behind its children, and one that has no row is made."""
    keys = _PathKeys(tree.scheme)
    known = []
    for row in rows:
        row.path = [clean_line(name) for name in row.path]
        problem = _problem(row.id, row.path)
        if not problem and row.path in keys:
            problem = f"{PATH_SIGN.join(row.path)} stands there again."
        if problem:
            tree.report(f"line {row.line}: {problem}")
            continue
        keys.add(row.path, _full_key(tree, row.id, row.has_keys))
        known.append(row)
    for row in sorted(known, key=lambda row: len(row.path)):  # stable: siblings keep their order
        key = keys[row.path]
        parent = _make_parents(tree, keys, row.path[:-1])
        if key in tree.nodes:
            tree.alias_paths.append(AliasPath(key, tuple(row.path)))
        else:
            tree.add(TreeNode(key, row.path[-1], parent, row.names, row.synonyms))


def _make_parents(tree: Tree, keys: "_PathKeys", path: Sequence[str]) -> str:
    """Return the key of the category at the path, after adding those on the way that no row describes."""
    if not path:
        return ""
    if path not in keys:
        keys.add(path)
    key = keys[path]
    if key not in tree.nodes:
        tree.add(TreeNode(key, path[-1], _make_parents(tree, keys, path[:-1])))
    return key


class _PathKeys:
    """The keys of categories by their paths; one without an id gets a key that the path alone decides."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._keys: dict[tuple[str, ...], str] = {}
        self._taken: set[str] = set()

    def __contains__(self, path: object) -> bool:
        return isinstance(path, Sequence) and path_identity(path) in self._keys

    def __getitem__(self, path: Sequence[str]) -> str:
        return self._keys[path_identity(path)]

    def add(self, path: Sequence[str], key: str = "") -> None:
        identity = path_identity(path)
        key = key or self._key_of_path(identity)
        self._keys[identity] = key
        self._taken.add(key)

    def _key_of_path(self, identity: tuple[str, ...]) -> str:
        key = f"{self._scheme}:" + "/".join(_SIGNS.sub("-", name).strip("-") for name in identity)
        # Words alone don't tell "C" and "C++" apart: such a key ends with a digest of the whole path.
        is_lossy = any(_HARMLESS_SIGNS.sub("", name) != _SIGNS.sub("", name) for name in identity)
        if not is_lossy and len(key) <= LONGEST_KEY and key not in self._taken:
            return key
        digest = hashlib.sha256("\x1f".join(identity).encode()).hexdigest()[:8]
        return f"{key[: LONGEST_KEY - 9]}~{digest}"


def _add_children(tree: Tree, rows: Sequence[TreeRow]) -> None:
    """Add rows that name their parent by its id, from the roots down; report those that no root leads to."""
    children: dict[str, list[TreeRow]] = {}
    for row in rows:
        row.name = clean_line(row.name)
        problem = "the id is empty." if not row.id else _problem(row.id, [row.name])
        if problem:
            tree.report(f"line {row.line}: {problem}")
        else:
            children.setdefault(row.parent, []).append(row)
    known = {row.id for group in children.values() for row in group}
    reached: set[str] = set()
    # Those whose parent has no row of its own are roots, so that no category is lost.
    level = [row for parent, group in children.items() if parent not in known for row in group]
    for row in level:
        if row.parent:
            tree.report(f"line {row.line}: the parent {row.parent[:40]!r} of {row.name!r} has no row.")
            row.parent = ""
    for _depth in range(DEEPEST):
        level = [row for row in level if _add_child(tree, row)]
        reached.update(row.id for row in level)
        level = [child for row in level for child in children.get(row.id, [])]
    for id in sorted(known - reached):
        tree.report(f"{id[:40]!r} is its own ancestor, or lies deeper than {DEEPEST} levels: it is left out.")


def _add_child(tree: Tree, row: TreeRow) -> bool:
    """Add a row, or note where else it stands; return whether it was new."""
    key, parent = (_full_key(tree, id, row.has_keys) for id in (row.id, row.parent))
    if key not in tree.nodes:
        tree.add(TreeNode(key, row.name, parent, row.names, row.synonyms))
        return True
    node = tree.nodes[key]
    if node.parent == parent:  # its own row and its parent's list of children
        node.names, node.synonyms = {**row.names, **node.names}, {**row.synonyms, **node.synonyms}
    else:
        tree.alias_paths.append(AliasPath(key, (*tree.path(parent), row.name)))
    return False


def _full_key(tree: Tree, id: str, is_key: bool) -> str:
    return id if is_key or not id else f"{tree.scheme}:{id}"


def _problem(id: str, path: Sequence[str]) -> str:
    if not path or not all(path):
        return "a name is empty."
    if len(path) > DEEPEST:
        return f"the path has {len(path)} levels; at most {DEEPEST} are allowed."
    longest = max(path, key=len)
    if len(longest) > LONGEST_NAME:
        return f"the name {longest[:40]!r} has {len(longest)} characters; at most {LONGEST_NAME} are allowed."
    if len(id) > LONGEST_KEY // 2:
        return f"the id {id[:40]!r} has {len(id)} characters; at most {LONGEST_KEY // 2} are allowed."
    return ""


def _add_language(tree: Tree, language: str, translated: Tree) -> None:
    for key, node in translated.nodes.items():
        if key in tree.nodes:
            tree.nodes[key].names[language] = node.name
    missing = len(tree.nodes.keys() - translated.nodes.keys())
    if missing:
        tree.report(f"{language}: {missing:,} categories have no name in this language.")
