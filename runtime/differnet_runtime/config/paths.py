"""Passwords, tokens, keys, certificates: read from files, never from the configuration itself.

Relative paths of a configuration, made absolute by the file that names them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..model_file.contract import StrictModel
from .grammar import is_path
from .problems import Key, dotted

_PRIVATE = ("password_file", "token_file", "key")
SECRETS = (*_PRIVATE, "ca", "certificate")
"""Keys, in whatever table, that name such a file."""

_LONGEST = 1 << 16
_LARGEST = 4 << 20
"""Bytes; the authorities of a whole system take a quarter of a megabyte."""


def read_secret(path: Path) -> str:
    """Returns the first line of a file.

    Args:
        path: Relative to `$CREDENTIALS_DIRECTORY` (systemd's) where that is set.

    Raises:
        ConfigError: It can't be read, every user may read it, or it holds nothing.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    whole = Path(credentials, path) if credentials else path
    try:
        secret = _read(whole, private=True)[:_LONGEST].decode().partition("\n")[0].strip("\r")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{whole}: a secret must be UTF-8 text, in the first line") from error
    if not secret:
        raise ConfigError(f"{whole}: its first line is empty; a secret is read from there")
    return secret


def secret_files(table: StrictModel, at: Key = ()) -> Iterator[tuple[Key, Path]]:
    """Goes through the files of secrets and certificates that a configuration names.

    Args:
        table: The configuration, or one of its tables.
        at: Where the table stands.
    """
    for name in type(table).model_fields:
        yield from _files_of(getattr(table, name), (*at, name))


def _files_of(value: object, key: Key) -> Iterator[tuple[Key, Path]]:
    if isinstance(value, Path) and key[-1] in SECRETS:
        yield key, value
    elif isinstance(value, StrictModel):
        yield from secret_files(value, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _files_of(item, (*key, name))


def fingerprint(key: Key, path: Path) -> str:
    """Returns the SHA-256 of a file that a configuration names under a key.

    Raises:
        ConfigError: It can't be read; or others may change it, or read what is secret.
    """
    try:
        data = _read(path, private=key[-1] in _PRIVATE)
    except ConfigError as error:
        raise ConfigError(f"{dotted(key)}: {error}") from error
    return hashlib.sha256(data).hexdigest()


def fingerprints(config: StrictModel) -> dict[Key, str]:
    """Returns the `fingerprint` of each file of `secret_files`, by its key.

    Raises:
        ConfigError: One of them can't be used.
    """
    return {key: fingerprint(key, path) for key, path in secret_files(config)}


def _read(path: Path, *, private: bool) -> bytes:
    """Reads a whole file; one that is no file, or in which others have a hand, is refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold us up
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            data = file.read(_LARGEST + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror or error}; a secret or certificate is read from there"
        ) from error
    if not stat.S_ISREG(mode) or len(data) > _LARGEST:
        raise ConfigError(f"{path}: expected a file of at most {_LARGEST >> 20} MiB")
    if private and mode & stat.S_IRWXO:
        raise ConfigError(
            f"{path}: every user of this machine may read or change this secret: "
            f"`chmod o-rwx {path}`, and replace the secret if others may have read it"
        )
    if mode & stat.S_IWOTH:
        raise ConfigError(f"{path}: every user of this machine may change it: `chmod o-w {path}`")
    return data


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
