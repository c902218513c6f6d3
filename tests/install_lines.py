"""Every `pip install` line that a person is shown: in documents, recipes and messages."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("runtime", "training", "export")

_LINE = re.compile(r"pip install\b([^`\n;&]*)")
_VARIABLE = re.compile(r"\$[({](\w+)[)}]")


@dataclass(frozen=True)
class InstallLine:
    """What follows `pip install`, split as a shell does, and where it stands."""

    where: str
    words: tuple[str, ...]

    @property
    def requirements(self) -> tuple[str, ...]:
        """The words that are no options and no values of options."""
        valued = {"--index-url"}
        pairs = zip(("", *self.words), self.words, strict=False)
        return tuple(w for last, w in pairs if not w.startswith("-") and last not in valued)


@cache
def shown() -> list[InstallLine]:
    """Returns all lines of the repository, in the order of the files."""
    return [*documented(), *(line for path in _python() for line in _messages(path))]


def documented() -> list[InstallLine]:
    """Returns the lines of documents, recipes and notebooks."""
    files = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *(path for path in ROOT.glob("deploy/**/*") if path.is_file()),
        *ROOT.glob("examples/*.ipynb"),
        ROOT / "Makefile",
    ]
    return [line for path in sorted(files) for line in _read(_name(path), _text(path))]


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return _VARIABLE.sub(lambda found: _value(text, found[1]), text)


def _value(text: str, variable: str) -> str:
    """Returns what a Makefile or a Dockerfile sets a variable to; empty where it does not."""
    found = re.search(rf"^(?:ARG )?{variable} *[:?]?= *(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _read(where: str, text: str) -> Iterator[InstallLine]:
    for found in _LINE.finditer(text):
        if words := tuple(shlex.split(found[1], comments=True)):
            yield InstallLine(where, words)


def _python() -> list[Path]:
    files = sorted(path for folder in SOURCES for path in (ROOT / folder).glob("**/*.py"))
    return [path for path in files if "install" in path.read_text(encoding="utf-8")]


def _messages(path: Path) -> Iterator[InstallLine]:
    """Reads what a module may say: its strings but docstrings, and its calls of `advice`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {id(part) for node in ast.walk(tree) for part in _not_said(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("install_line", "advice"):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield InstallLine(_name(path), (f".[{node.args[0].value}]",))
        elif id(node) not in skipped:
            yield from _read(_name(path), _literal(node))


def _not_said(node: ast.AST) -> list[ast.AST]:
    """Returns docstrings, and the pieces of a formatted string, which is read as a whole."""
    if isinstance(node, ast.Expr):
        return [node.value]
    return list(node.values) if isinstance(node, ast.JoinedStr) else []


def _literal(node: ast.AST) -> str:
    """Returns a string's text; what is filled in at run time is left out."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) for part in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return ""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))
