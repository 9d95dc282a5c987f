"""Imports between the project's modules, whether at a module's top, inside functions or for types alone."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

PACKAGES = ("common", "classifier", "feedback", "portal", "training")


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))
