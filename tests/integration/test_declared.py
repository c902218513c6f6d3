"""Every package of others that our code imports is one that `pyproject.toml` names."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from differnet_runtime.config.loading import tomllib
from tests.install_lines import ROOT, SOURCES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_OTHERS = {"tensorrt", "triton_python_backend_utils"}
"""JetPack's, and Triton's for its Python backend."""


def imported(folder: str) -> set[str]:
    """Returns the top-level modules that are neither Python's nor ours."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.partition(".")[0])
    ours = {name for name in found if name.startswith("differnet_")}
    return found - sys.stdlib_module_names - ours - OF_OTHERS


def declared() -> set[str]:
    lines = [*PROJECT["dependencies"]]
    for extra, more in PROJECT["optional-dependencies"].items():
        lines += more if extra != "dev" else []
    return {canonicalize_name(Requirement(line).name) for line in lines}


@pytest.mark.parametrize("folder", SOURCES)
def test_what_is_imported_is_declared(folder: str) -> None:
    of_module = packages_distributions()
    for module in imported(folder):
        names = {canonicalize_name(name) for name in of_module.get(module, [module])}
        assert names & declared(), module
