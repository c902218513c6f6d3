"""What is wrong with a configuration, in words: file, key, what was received and expected.

The configuration's JSON Schema, from the models and their docstrings; editors complete by it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..text import nearest
from . import models

_ARGUMENT = re.compile(r"^ {4}(\w+): (.*)$")


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of a station's TOML file; the caller may change it."""
    written = models.Config.model_json_schema()
    for name, part in written.get("$defs", {}).items():
        _describe(part, getattr(models, name))
    _describe(written, models.Config)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **written,
        "title": "differnet-edge station",
    }


def keys_at(path: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the keys that the table at `path` may hold; none where its names are free."""
    table = _resolve(_cached())
    for key in path:
        free = next(iter(table.get("patternProperties", {}).values()), None)
        below = table.get("properties", {}).get(key, free)
        if below is None:
            return ()
        table = _resolve(below)
    return tuple(table.get("properties", {}))


def tables_with(key: str) -> tuple[str, ...]:
    """Returns the tables, as they are written in TOML, that know a key."""
    named = (("camera", "NAME"), ("camera", "NAME", "model"), ("webhook", "NAME"))
    paths = (*((name,) for name in keys_at(())), *named)
    return tuple(f"[{'.'.join(path)}]" for path in paths if key in keys_at(path))


@functools.cache
def _cached() -> dict[str, Any]:
    return schema()


def _resolve(part: dict[str, Any]) -> dict[str, Any]:
    """Follows a reference, and of "this table or nothing" takes the table."""
    for choice in part.get("anyOf", ()):
        if choice.get("type") != "null":
            part = choice
    if "$ref" in part:
        found: dict[str, Any] = _cached()["$defs"][part["$ref"].rsplit("/", 1)[-1]]
        return found
    return part


def _describe(part: dict[str, Any], model: type[BaseModel]) -> None:
    """Moves what the docstring says of each argument to that key."""
    text, arguments = _docstring(model.__doc__ or "")
    part["description"] = text
    for name, key in part.get("properties", {}).items():
        if name in arguments:
            key["description"] = arguments[name]


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Splits a Google docstring into what is said of the whole and of each argument."""
    lines = [line.removeprefix("    ") for line in text.strip().splitlines()]
    whole, _, listed = "\n".join(lines).partition("\nArgs:\n")
    arguments: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        if found := _ARGUMENT.match(line):
            name, arguments[found[1]] = found[1], found[2]
        elif name and line.strip():
            arguments[name] += " " + line.strip()
    return " ".join(whole.split()), arguments


Key = tuple[str, ...]

_SHOWN = 20
_LONGEST = 60
_QUOTED = re.compile("'([^']*)'")
_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TYPES = {
    "Input should be a valid integer": "a whole number",
    "Input should be a valid number": "a number",
    "Input should be a valid string": "a text",
    "Input should be a valid boolean": "true or false",
    "Input is not a valid path": "a text that is a path",
    "Input should be a finite number": "a finite number",
}
_NAME = "lower-case letters, digits, - and _, 64 at most, and a letter or digit first"


def in_words(error: ValidationError, origin: Callable[[Key], Path]) -> str:
    """Writes a line for each problem.

    Args:
        error: Of the configuration's models.
        origin: Tells which file set a key.
    """
    problems = error.errors(include_url=False)
    lines = [_line(dict(problem), origin) for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"... and {len(problems) - _SHOWN} more")
    return "\n".join(lines)


def dotted(key: Key) -> str:
    """Writes a key as TOML does: quoted where it is not plain."""
    return ".".join(part if _BARE.fullmatch(part) else _shown(part) for part in key)


def _line(problem: dict[str, Any], origin: Callable[[Key], Path]) -> str:
    where = tuple(str(part) for part in problem["loc"])
    kind = problem["type"]
    if where and where[-1] == "[key]":
        return f"{origin(where[:-1])}: {dotted(where[:-1])}: not a name; expected {_NAME}"
    if kind == "extra_forbidden":
        return f"{origin(where)}: {dotted(where)}: unknown key; {_nearest(where)}"
    if kind == "missing":
        return f"{origin(where[:-1])}: {dotted(where)}: missing; {_wanted(where)}"
    if kind == "value_error":
        return f"{origin(where)}: {dotted(where)}: {problem['ctx']['error']}"
    return f"{origin(where)}: {dotted(where)}: {_received(problem)}; {_expected(problem)}"


def _nearest(where: Key) -> str:
    known = keys_at(where[:-1])
    if close := nearest(where[-1], known):
        return f"did you mean {close}?"
    if tables := tables_with(where[-1]):
        return f"it belongs to {' or '.join(tables)}"
    return f"known here: {', '.join(known)}"


def _wanted(where: Key) -> str:
    if where == ("camera",):
        return "expected at least one table [camera.NAME] with a source"
    return "it has no default"


def _expected(problem: dict[str, Any]) -> str:
    if problem["type"] == "string_pattern_mismatch" and "a-z0-9" in problem["ctx"]["pattern"]:
        return f"expected {_NAME}"
    if problem["type"] in ("model_type", "dict_type"):
        return "expected a table"
    text: str = problem["msg"]
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        choices = _QUOTED.findall(problem["ctx"]["expected"])
        if close := nearest(problem["input"], choices):
            return f'did you mean "{close}"?'
    if words := _TYPES.get(text):
        return f"expected {words}"
    for prefix in ("Input should be ", "String should "):
        if text.startswith(prefix):
            return f"expected {'a text to ' if prefix[0] == 'S' else ''}{text[len(prefix) :]}"
    return f"expected: {text}"


def _received(problem: dict[str, Any]) -> str:
    """Shows a value, but no table, and no text that may hold a password."""
    value = problem["input"]
    if isinstance(value, bool):
        return f"received {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"received {_number(value)}"
    if isinstance(value, str):
        secret = "@" in value or "://" in value
        return (
            f"received a text of {len(value)} characters" if secret else f"received {_shown(value)}"
        )
    return f"received {'a table' if isinstance(value, dict) else 'an array'}"


def _number(value: float) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[:20]}... ({len(text)} digits)"


def _shown(text: str) -> str:
    """Quotes a text on one line, cut where it is long."""
    cut = ascii(text[:_LONGEST])[1:-1] + ("..." if len(text) > _LONGEST else "")
    return f'"{cut}"'
