"""Read which categories of a new tree take the place of earlier ones."""

from pathlib import Path
from typing import Any

from classifier.taxonomy.files import read_json, read_text
from classifier.taxonomy.tree import TreeError
from common.tables.columns import column_key
from common.tables.dialect import TableRows, find_dialect, open_text
from common.tables.errors import RowError, SourceError

_FROM, _TO = ("from", "old", "key", "source"), ("to", "new", "target", "redirect")

Redirects = dict[str, list[str]]


def read_redirects(path: Path) -> Redirects:
    """Return the keys that replace each earlier key: several where a category is split.

    The file is a table with the columns "from" and "to" (a row for each target), or one of Shopify's migration files.
    Raises TreeError.
    """
    if path.name.lower().endswith((".json", ".json.gz")):
        return _read_migration(read_json(read_text(path), path), path)
    try:
        return _read_table(path)
    except SourceError as error:
        raise TreeError(str(error)) from error


def _read_table(path: Path) -> Redirects:
    redirects: Redirects = {}
    dialect = find_dialect(path)
    with open_text(path, dialect.encoding) as lines:
        rows = TableRows(lines, path, dialect)
        header = next(rows, None)
        keys = [column_key(name) for name in header] if isinstance(header, list) else []
        source = next((keys.index(name) for name in _FROM if name in keys), None)
        target = next((keys.index(name) for name in _TO if name in keys), None)
        if source is None or target is None:
            raise TreeError(f'{path} needs two columns, "from" and "to", with the keys of categories.')
        for cells in rows:
            if isinstance(cells, RowError):
                raise TreeError(f"{path}, line {rows.line}: {cells}")
            pair = [cells[place].strip() if place < len(cells) else "" for place in (source, target)]
            if all(pair):
                redirects.setdefault(pair[0], []).append(pair[1])
    return redirects


def _read_migration(content: Any, path: Path) -> Redirects:
    """Read Shopify's form: rules from an id of the earlier version to one or more of the new one."""
    redirects: Redirects = {}
    try:
        for mapping in content["mappings"]:
            for rule in mapping["rules"]:
                source = str(rule["input"]["category"]["id"])
                targets = [str(entry["id"]).rpartition("/")[2] for entry in rule["output"].get("category") or []]
                if targets and targets != [source]:
                    redirects[f"shopify:{source}"] = [f"shopify:{target}" for target in targets]
    except (KeyError, TypeError, AttributeError) as error:
        raise TreeError(f"{path} is not one of Shopify's migration files: {error} is missing.") from error
    return redirects
