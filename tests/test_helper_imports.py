"""Check how the tests depend on each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, with `from package import name` as `package.name`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{'.' * node.level}{node.module or ''}.{alias.name}"


def test_tests_import_helpers_from_tests_support_alone() -> None:
    # A test module that another one imports can't be changed, moved or dropped by itself.
    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        for name in imported_modules(path):
            if name.startswith(("tests.", ".")) and not name.startswith("tests.support."):
                found.append(f"{path.relative_to(ROOT)} imports {name}")
    assert found == []
