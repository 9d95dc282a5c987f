"""Check that the documentation names files, functions and modules that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = "common|classifier|feedback|portal|training|benchmarks|deploy|tests|templates|static|docs"
FILE = re.compile(rf"`((?:{PACKAGES})/[\w./-]*\.\w+)(?:: ([\w.]+))?`")
# Two parts are a permission, such as `feedback.judge_case`.
MODULE = re.compile(r"`((?:common|classifier|feedback|portal|training)(?:\.\w+){2,})`")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([\w-]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors_in(page: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub makes them."""
    headings = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in HEADING.findall(page.read_text()))
    return {heading.strip().replace(" ", "-") for heading in headings}


def functions_in(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names.update(f"{node.name}.{member.name}" for member in node.body if isinstance(member, ast.FunctionDef))
    return names


def is_module_or_name(dotted: str) -> bool:
    """Return whether `package.module`, or a name in it, exists."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:length])
        for source in (folder.with_suffix(".py"), folder / "__init__.py"):
            if source.exists():
                rest = parts[length:]
                return not rest or re.search(rf"\b{rest[0]}\b", source.read_text()) is not None
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_files_and_functions_that_exist(page: Path) -> None:
    missing = []
    for name, function in FILE.findall(page.read_text()):
        path = ROOT / name
        if not path.exists() or (function and function not in functions_in(path)):
            missing.append(f"{name}: {function}" if function else name)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_modules_that_exist(page: Path) -> None:
    assert [name for name in MODULE.findall(page.read_text()) if not is_module_or_name(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for name, anchor in LINK.findall(page.read_text()):
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors_in(target)):
            broken.append(f"{name}#{anchor}" if anchor else name)
    assert not broken
