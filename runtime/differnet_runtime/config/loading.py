"""Reading a station's configuration: one TOML file, and the drop-ins beside it.

`line3.toml` is read first, then `line3.d/*.toml` in the order of their names. Tables merge key by
key, a later file wins, arrays are replaced. A relative path belongs to the file that names it: its
folder is put before it. Passwords, tokens and certificates are looked for in systemd's
`$CREDENTIALS_DIRECTORY` first.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError
from .cautions import warnings_of
from .changes import Changes, differences
from .models import Config
from .ownership import refuse_changeable
from .paths import resolve
from .problems import Key, dotted, in_words
from .schema import schema

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - JetPack 6's Python
    import tomli as tomllib

__all__ = ["Changes", "Loaded", "differences", "load_config", "schema"]

LARGEST = 1 << 20
"""Bytes of a file; a station's configuration has a few thousand."""
DEEPEST = 20
"""Tables within tables; ours go four deep."""


@dataclass(frozen=True)
class Loaded:
    """A configuration that was read.

    Args:
        config: Checked; its paths are absolute.
        files: Those it came from, in the order in which they were read.
        warnings: What works, but should be looked at.
    """

    config: Config
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def load_config(path: Path) -> Loaded:
    """Reads `path` and the drop-ins `*.toml` of the folder with its name and the suffix `.d`.

    Raises:
        ConfigError: A file can't be read or is not TOML, others can change it or the drop-ins'
            folder, or a key is unknown or its value wrong; the message names file and key, a line
            for each problem.
    """
    path = path.absolute()
    merged = _Merged(path)
    merged.add(_read(path), path)
    drop_ins = _drop_ins(path)
    for file in drop_ins:
        merged.add(_read(file), file)
    resolve(merged.table, merged.origin)
    try:
        # As JSON, since pydantic's strict mode takes "640" for no number, but a text for a path.
        config = Config.model_validate_json(json.dumps(merged.table), strict=True)
    except ValidationError as error:
        # Not "from error": pydantic's own text shows the values, passwords among them.
        raise ConfigError(in_words(error, merged.origin)) from None
    files = (path, *drop_ins)
    return Loaded(config, files, warnings_of(config, files))


class _Merged:
    """The files' tables as one, and which file set each key."""

    def __init__(self, first: Path) -> None:
        self.table: dict[str, Any] = {}
        self._first = first
        self._origins: dict[Key, Path] = {}

    def add(self, table: dict[str, Any], file: Path) -> None:
        self._merge(self.table, table, (), file)

    def origin(self, key: Key) -> Path:
        """Returns the file that last said something of a key, or of the table around it."""
        while key:
            if key in self._origins:
                return self._origins[key]
            key = key[:-1]
        return self._first

    def _merge(self, into: dict[str, Any], table: dict[str, Any], at: Key, file: Path) -> None:
        for name, value in table.items():
            key = (*at, name)
            self._origins[key] = file
            if isinstance(value, dict):
                if not isinstance(into.get(name), dict):
                    into[name] = {}
                self._merge(into[name], value, key, file)
            else:
                into[name] = value


def _drop_ins(path: Path) -> list[Path]:
    folder = path.with_suffix(".d")
    try:
        if not folder.is_dir():
            return []
        refuse_changeable(folder, folder.stat())
        found = [file for file in folder.iterdir() if file.suffix == ".toml"]
    except OSError as error:
        raise ConfigError(f"{folder}: can't be listed: {error.strerror or error}.") from error
    return sorted(file for file in found if not file.name.startswith("."))


def _read(file: Path) -> dict[str, Any]:
    """Reads one file's tables."""
    try:
        with file.open("rb") as opened:
            refuse_changeable(file, os.fstat(opened.fileno()))
            data = opened.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        cause = getattr(error, "strerror", None) or error
        raise ConfigError(f"{file}: can't be read: {cause}.") from error
    if len(data) > LARGEST:
        raise ConfigError(f"{file}: is larger than {LARGEST} bytes; no configuration is.")
    try:
        table = tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}: line {line} is not UTF-8, as TOML must be.") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: is nested too deep.") from error
    except ValueError as error:  # tomllib's own, and Python's limit of an integer's digits
        raise ConfigError(f"{file}: is not TOML: {error}.") from error
    _plain(table, (), file)
    return table


def _plain(value: Any, key: Key, file: Path) -> None:  # noqa: ANN401 - whatever TOML holds
    """Refuses what TOML can hold and no key takes."""
    if len(key) > DEEPEST:
        raise ConfigError(f"{file}: {dotted(key[:3])}: is nested deeper than {DEEPEST} tables.")
    if isinstance(value, dict):
        for name, item in value.items():
            _plain(item, (*key, name), file)
    elif isinstance(value, list):
        for item in value:
            _plain(item, (*key, "[]"), file)
    elif isinstance(value, str):
        if "\0" in value:
            raise ConfigError(f"{file}: {dotted(key)}: a text may not hold a zero byte.")
    elif not isinstance(value, (bool, int, float)):
        raise ConfigError(f"{file}: {dotted(key)}: received a date or time; no key takes one.")
    elif isinstance(value, int) and abs(value) >= 1 << 63:
        raise ConfigError(f"{file}: {dotted(key)}: received a number beyond 64 bits.")
