"""Read what shops write into one cell: the names of several photos, and paths of categories."""

import json
import re
from collections.abc import Sequence

_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//|data:", re.IGNORECASE)
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*+)'|"((?:[^"\\]|\\.)*+)\"""")
_LIST_SIGNS = re.compile(r"[,;|\n]")
_PATH_SIGNS = re.compile(r"\s*(?:>+|\u00bb|\u203a|\|)\s*")
_SLASH = re.compile(r"\s*/\s*")
NO_PHOTO = frozenset(("nan", "null", "none", "n/a", "na", "#n/a", "-", "no_selection", "\\n"))  # as shops write it


def is_address(name: str) -> bool:
    """Return whether a photo's name is an address in a network."""
    return _ADDRESS.match(name) is not None


def photo_names(cell: str) -> list[str]:
    """Return the names of photos in a cell, the whole cell first if it may be one name with a comma in it."""
    cell = cell.strip()
    if not cell or cell.casefold() in NO_PHOTO:
        return []
    listed = _listed(cell)
    if listed is not None:
        return _without_blanks(listed)
    parts = _without_blanks(_LIST_SIGNS.split(cell))
    return parts if len(parts) < 2 or is_address(cell) else [cell, *parts]


def count_photo_names(cell: str) -> int:
    """Return how many photos a cell names."""
    names = photo_names(cell)
    return len(names) - (len(names) > 1 and names[0] == cell.strip())


def category_paths(cell: str) -> list[list[str]]:
    """Return the paths of categories that a cell may hold, each from the first level to the last.

    "A > B" is one, "A > B, A > C" may be two or one whose names have commas: the cell as a whole comes first. Slashes
    separate levels where nothing else does.
    """
    listed = _listed(cell.strip())
    if listed is not None:
        cell = ", ".join(listed)
    wholes = [cell, *(cell.split(",") if "," in cell else [])]
    paths = [_levels(whole) for whole in wholes]
    return [path for path in paths if path]


def path_pieces(cell: str) -> list[list[str]]:
    """Return the paths of a cell whose categories are not known yet: several only where each part is a path."""
    whole, *parts = category_paths(cell) or [[]]
    listed = [path for path in parts if len(path) > 1]
    return listed if len(listed) > 1 else [whole]


def is_category_path(cell: str) -> bool:
    """Return whether a cell names more than one level of a category, by a sign that no name has."""
    return _PATH_SIGNS.search(cell.strip()) is not None


def has_levels(cell: str) -> bool:
    """Return whether a cell may be a path or a list of categories."""
    paths = category_paths(cell)
    return len(paths) > 1 or len(paths[0] if paths else ()) > 1


def category_at(path: Sequence[str], level: int) -> str:
    """Return the category at a level of a path, 1 for the first, -1 for the last; "" where the path is shorter."""
    place = level - 1 if level > 0 else len(path) + level
    return path[place] if 0 <= place < len(path) else ""


def _levels(path: str) -> list[str]:
    signs = _PATH_SIGNS if _PATH_SIGNS.search(path) else _SLASH
    return _without_blanks(signs.split(path))


def _listed(cell: str) -> list[str] | None:
    """Return the texts of a list in JSON or in Python's notation, or None for a cell that is no such list."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return [single or double for single, double in _QUOTED.findall(cell)] or None
    return [item for item in found if isinstance(item, str)]


def _without_blanks(parts: Sequence[str]) -> list[str]:
    return [part.strip() for part in parts if part.strip()]
