"""Write the category tree to a file that `manage.py taxonomy import` reads again."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from classifier.models import Category
from classifier.taxonomy.tree import PATH_SIGN, TreeError
from common.tables.writing import safe_cell


def export_tree(path: Path) -> int:
    """Write the active categories as JSON or as a table of paths, by the file's ending; return how many.

    Raises TreeError for another ending.
    """
    rows = list(_rows())
    if path.suffix == ".json":
        content = {"categories": rows}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["key", "path"])
            writer.writerows([row["key"], safe_cell(PATH_SIGN.join(row["path"]))] for row in rows)
    else:
        raise TreeError(f"{path}: write a file whose name ends with .json or .csv.")
    return len(rows)


def _rows() -> Iterator[dict[str, Any]]:
    """Yield the active categories, parents before their children."""
    paths: dict[int, list[str]] = {}
    for category in Category.objects.active().select_related("parent").order_by("depth", "position", "name"):
        above = paths.get(category.parent_id or 0, [])
        paths[category.pk] = [*above, category.name]
        yield {
            "key": category.slug,
            "name": category.name,
            "parent": category.parent.slug if category.parent else "",
            "path": paths[category.pk],
            "names": category.names,
            "codes": category.codes,
        }
