"""What our source asks of TensorRT, read from its syntax.

Starting from `load()`, which gives the module, types are followed through assignments, `self`,
calls (by the return types in NVIDIA's signatures) and closures. Names are looked up in their
function, the functions around it, and the class for `self.x`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.contract.bindings import Api

MODULE = ""
LOADER, ITS_MODULE = "load", "api"


@dataclass(frozen=True)
class Kind:
    """What an expression is: a class of TensorRT or one of its objects, or a member of either."""

    name: str
    is_object: bool = False
    member: str | None = None


@dataclass(frozen=True)
class Use:
    """One attribute that is read, called or set."""

    owner: str
    attribute: str
    place: str

    def __str__(self) -> str:
        return f"{self.owner or 'tensorrt'}.{self.attribute} ({self.place})"


@dataclass(frozen=True)
class Call:
    """One call; `owner` is called itself where `attribute` is `__init__`."""

    owner: str
    attribute: str
    positional: int
    keywords: tuple[str, ...]
    place: str


@dataclass(frozen=True)
class Override:
    """A method of ours that TensorRT calls."""

    base: str
    method: str
    parameters: int
    place: str


@dataclass
class Usage:
    """All of it, of one or more files."""

    uses: set[Use] = field(default_factory=set)
    guards: set[tuple[str, str]] = field(default_factory=set)
    calls: set[Call] = field(default_factory=set)
    overrides: set[Override] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    """Every attribute's name in the source, of whatever it is."""

    def __or__(self, other: Usage) -> Usage:
        return Usage(
            self.uses | other.uses,
            self.guards | other.guards,
            self.calls | other.calls,
            self.overrides | other.overrides,
            self.attributes | other.attributes,
        )


def usage(path: Path, returns: dict[tuple[str, str], str], api: Api) -> Usage:
    """Reads one file.

    Args:
        path: Of the source.
        returns: The class that a method returns, by class and method.
        api: Classes of the bindings.
    """
    reader = _Reader(path.name, returns, api)
    tree = ast.parse(path.read_text("utf-8"))
    for _ in range(4):  # until what is assigned late is known where it is used early
        reader.found = Usage()
        reader.read(tree)
    return reader.found


class _Reader:
    def __init__(self, name: str, returns: dict[tuple[str, str], str], api: Api) -> None:
        self.name, self.returns, self.api = name, returns, api
        self.found = Usage()
        self.names: dict[str, dict[str, Kind]] = {}
        self.scopes: list[str] = []
        self.classes: list[str] = []

    def read(self, node: ast.AST) -> None:
        """Reads a node and all below it, in order."""
        if isinstance(node, ast.ClassDef):
            self._class(node)
        elif isinstance(node, ast.FunctionDef):
            self.scopes.append(node.name)
            self._below(node)
            self.scopes.pop()
        else:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._assign(target, node.value)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                self._assign(node.target, node.value)
            elif isinstance(node, ast.Attribute):
                self.found.attributes.add(node.attr)
                self._kind(node)
            elif isinstance(node, ast.Call):
                self._call(node)
            self._below(node)

    def _below(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self.read(child)

    def _class(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            kind = self._kind(base)
            if kind is not None:
                for method in _methods(node):
                    place = f"{self.name}:{method.lineno}"
                    count = len(method.args.args)
                    self.found.overrides.add(Override(kind.name, method.name, count, place))
        for base in node.bases:
            self.read(base)
        self.classes.append(node.name)
        for statement in node.body:
            self.read(statement)
        self.classes.pop()

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, its in zip(target.elts, value.elts, strict=True):
                self._assign(one, its)
            return
        kind = self._kind(value)
        if kind is None:
            return
        if isinstance(target, ast.Name):
            self.names.setdefault("/".join(self.scopes), {})[target.id] = kind
        elif _is_self(target):
            assert isinstance(target, ast.Attribute)
            self.names.setdefault(f"class {self.classes[-1]}", {})[target.attr] = kind

    def _look_up(self, name: str) -> Kind | None:
        for depth in range(len(self.scopes), -1, -1):
            found = self.names.get("/".join(self.scopes[:depth]), {}).get(name)
            if found is not None:
                return found
        return None

    def _kind(self, node: ast.expr) -> Kind | None:
        if isinstance(node, ast.Name):
            return self._look_up(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        return None

    def _attribute(self, node: ast.Attribute) -> Kind | None:
        if _is_self(node) and self.classes:
            return self.names.get(f"class {self.classes[-1]}", {}).get(node.attr)
        owner = self._kind(node.value)
        if owner is None or owner.member is not None:
            return None
        self.found.uses.add(Use(owner.name, node.attr, f"{self.name}:{node.lineno}"))
        inner = f"{owner.name}.{node.attr}" if owner.name else node.attr
        if not owner.is_object and inner in self.api:
            return Kind(inner)
        return Kind(owner.name, owner.is_object, node.attr)

    def _call(self, node: ast.Call) -> Kind | None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in ("hasattr", "getattr"):
            return self._asked(node, called)
        if called == LOADER and (isinstance(node.func, ast.Name) or _is_loader(node.func)):
            return Kind(MODULE)
        kind = self._kind(node.func)
        if kind is None:
            return None
        attribute = kind.member or "__init__"
        keywords = tuple(sorted(keyword.arg or "**" for keyword in node.keywords))
        place = f"{self.name}:{node.lineno}"
        if not (attribute == "__init__" and kind.member):  # Base.__init__(self): no arguments
            call = Call(kind.name, attribute, len(node.args), keywords, place)
            self.found.calls.add(call)
        if kind.member is None:
            return Kind(kind.name, is_object=True)
        returned = self.returns.get((kind.name, kind.member))
        return Kind(returned, is_object=True) if returned else None

    def _asked(self, node: ast.Call, how: str) -> Kind | None:
        """`hasattr(x, "name")` and `getattr(x, "name", default)` guard that name."""
        owner = self._kind(node.args[0])
        if owner is None or owner.member is not None:
            return None
        name = node.args[1]
        if not isinstance(name, ast.Constant) or (how == "getattr" and len(node.args) < 3):
            raise AssertionError(f"{self.name}:{node.lineno}: a name that can't be checked")
        self.found.guards.add((owner.name, str(name.value)))
        self.found.attributes.add(str(name.value))
        return None


def _is_self(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def _is_loader(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == ITS_MODULE
    )


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and not statement.name.startswith("_"):
            yield statement
