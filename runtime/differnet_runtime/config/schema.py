"""The configuration's JSON Schema, from the models and their docstrings; editors complete by it."""

from __future__ import annotations

import functools
import re
from typing import Any

from pydantic import BaseModel

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
