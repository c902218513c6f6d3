"""What is wrong with a configuration, in words, and the schema that knows every key.

A problem's line names the file, the key, what was received and what is expected. The JSON Schema is
made from the models and their docstrings; editors use it for completion.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..text import nearest
from . import models

Key = tuple[str, ...]

_ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_SHOWN = 20
"""Problems in one message."""
_LONGEST = 60
"""Characters of a value in a message."""
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
    """Returns a line for each problem.

    Args:
        error: The validation error of the configuration's models.
        origin: Returns the file that set a key.
    """
    problems = error.errors(include_url=False)
    lines = [_line(dict(problem), origin) for problem in problems[:_SHOWN]]
    more = [f"... and {len(problems) - _SHOWN} more"] * (len(problems) > _SHOWN)
    return "\n".join(lines + more)


def dotted(key: Key) -> str:
    """Returns a key as TOML writes it: quoted where it is not plain."""
    return ".".join(part if _BARE.fullmatch(part) else _shown(part) for part in key)


def _line(problem: dict[str, Any], origin: Callable[[Key], Path]) -> str:
    key, kind = tuple(str(part) for part in problem["loc"]), problem["type"]
    setter, text = key, f"{_received(problem)}; {_expected(problem)}"
    if key and key[-1] == "[key]":
        setter = key = key[:-1]
        text = f"not a name; expected {_NAME}"
    elif kind == "extra_forbidden":
        text = f"unknown key; {_nearest(key)}"
    elif kind == "missing":
        camera = "expected at least one table [camera.NAME] with a source"
        setter, text = key[:-1], f"missing; {camera if key == ('camera',) else 'it has no default'}"
    elif kind == "value_error":
        text = str(problem["ctx"]["error"])
    return f"{origin(setter)}: {dotted(key)}: {text}"


def _nearest(key: Key) -> str:
    known = keys_at(key[:-1])
    if close := nearest(key[-1], known):
        return f"did you mean {close}?"
    if tables := tables_with(key[-1]):
        return f"it belongs to {' or '.join(tables)}"
    return f"known here: {', '.join(known)}"


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
    if not isinstance(value, str):
        return f"received {'a table' if isinstance(value, dict) else 'an array'}"
    if "@" in value or "://" in value:
        return f"received a text of {len(value)} characters"
    return f"received {_shown(value)}"


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


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of a station's TOML file."""
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
    """Returns the keys that the table at `path` may hold; none if its names are free."""
    table = _resolve(_cached())
    for key in path:
        free = next(iter(table.get("patternProperties", {}).values()), None)
        below = table.get("properties", {}).get(key, free)
        if below is None:
            return ()
        table = _resolve(below)
    return tuple(table.get("properties", {}))


def tables_with(key: str) -> tuple[str, ...]:
    """Returns the tables that have a key, as TOML writes them."""
    named = (("camera", "NAME"), ("camera", "NAME", "model"), ("webhook", "NAME"))
    paths = (*((name,) for name in keys_at(())), *named)
    return tuple(f"[{'.'.join(path)}]" for path in paths if key in keys_at(path))


_cached = functools.cache(schema)


def _resolve(part: dict[str, Any]) -> dict[str, Any]:
    """Follows a reference; of "this table or nothing", returns the table."""
    for choice in part.get("anyOf", ()):
        if choice.get("type") != "null":
            part = choice
    if "$ref" in part:
        found: dict[str, Any] = _cached()["$defs"][part["$ref"].rsplit("/", 1)[-1]]
        return found
    return part


def _describe(part: dict[str, Any], model: type[BaseModel]) -> None:
    """Adds the docstring's description of the table and of each key."""
    text, arguments = _docstring(model.__doc__ or "")
    part["description"] = text
    for name, key in part.get("properties", {}).items():
        if name in arguments:
            key["description"] = arguments[name]


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Splits a Google docstring into the text and the descriptions of its arguments."""
    described = inspect.cleandoc(text).partition("\nExample:\n")[0]
    whole, _, listed = described.partition("\nArgs:\n")
    arguments = {name: " ".join(text.split()) for name, text in _ARGUMENT.findall(listed)}
    return " ".join(whole.split()), arguments
