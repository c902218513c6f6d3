"""Relative paths of a configuration, made absolute by the file that names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .grammar import is_path
from .problems import Key, dotted
from .secrets import SECRETS

_PATHS: tuple[Key, ...] = (("station", "state"), ("model", "path"), ("jsonl", "path"))


def resolve(table: dict[str, Any], origin: Callable[[Key], Path]) -> None:
    """Makes the paths in a configuration's tables absolute, in place.

    Args:
        table: As read; what is of a wrong type is left to the models.
        origin: Tells which file set a key.

    Raises:
        ConfigError: A path is empty.
    """
    for key in _PATHS:
        _replace(table, key, origin, _beside)
    for key in list(_secret_keys(table)):
        _replace(table, key, origin, _secret)
    for name, camera in _tables(table.get("camera")):
        if _is_path(camera.get("source"), camera.get("kind", "auto")):
            _replace(table, ("camera", name, "source"), origin, _beside)
        _replace(table, ("camera", name, "model", "path"), origin, _beside)


def _secret_keys(table: dict[str, Any]) -> Iterator[Key]:
    """Keys of passwords, tokens and certificates, wherever they may stand."""
    places: list[tuple[Key, Any]] = [((name,), table.get(name)) for name in ("mqtt", "web")]
    for kind in ("webhook", "camera"):
        places += [((kind, name), one) for name, one in _tables(table.get(kind))]
    for at, place in places:
        if not isinstance(place, dict):
            continue
        yield from ((*at, name) for name in SECRETS if name in place)
        if isinstance(tls := place.get("tls"), dict):
            yield from ((*at, "tls", name) for name in SECRETS if name in tls)


def _tables(value: Any) -> list[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - not checked yet
    if not isinstance(value, dict):
        return []
    return [(name, item) for name, item in value.items() if isinstance(item, dict)]


def _is_path(source: Any, kind: Any) -> bool:  # noqa: ANN401 - not checked yet
    """Whether a camera's source is a path: told by how it is written, not by what exists."""
    if not isinstance(source, str) or not source:
        return False
    return kind in ("video", "folder") or bool(kind == "auto" and is_path(source))


def _replace(
    table: dict[str, Any],
    key: Key,
    origin: Callable[[Key], Path],
    place: Callable[[str, Path], str],
) -> None:
    for name in key[:-1]:
        below = table.get(name)
        if not isinstance(below, dict):
            return
        table = below
    value = table.get(key[-1])
    if value == "":
        raise ConfigError(f"{origin(key)}: {dotted(key)}: is empty; expected a path.")
    if isinstance(value, str) and not value.startswith("/"):
        table[key[-1]] = place(value, origin(key).parent)


def _beside(path: str, folder: Path) -> str:
    return str(folder / path)


def _secret(path: str, folder: Path) -> str:
    if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
        given = Path(credentials, path)
        if os.path.lexists(given):
            return str(given)
    return _beside(path, folder)
