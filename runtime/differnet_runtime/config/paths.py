"""The files that a configuration names: relative paths, passwords, tokens, keys and certificates.

Secrets are always read from files, never from the configuration itself.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from ..errors import ConfigError
from ..model_file.contract import StrictModel
from .grammar import ON_DISK, is_path
from .models import Config
from .problems import Key, dotted

_PRIVATE = ("password_file", "token_file", "key")
_SECRETS = (*_PRIVATE, "ca", "certificate")
"""Keys of any table that name the file of a secret or a certificate."""
_LONGEST = 1 << 16
"""Bytes of a secret."""
_LARGEST = 4 << 20
"""Bytes of a file; the authorities of a whole system take a quarter of a megabyte."""


def read_secret(path: Path) -> str:
    """Returns a secret: the first line of a file.

    Args:
        path: The file; relative to systemd's `$CREDENTIALS_DIRECTORY`, if that is set.

    Raises:
        ConfigError: It can't be read, every user may read it, or it holds nothing.
    """
    whole = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), path)
    try:
        secret = _read(whole, private=True)[:_LONGEST].decode().partition("\n")[0].strip("\r")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{whole}: a secret must be UTF-8 text, in the first line") from error
    if not secret:
        raise ConfigError(f"{whole}: its first line is empty; a secret is read from there")
    return secret


def secret_files(table: object, at: Key = ()) -> Iterator[tuple[Key, Path]]:
    """Yields the key and the path of every secret and certificate that a configuration names.

    Args:
        table: The configuration, or one of its tables or values.
        at: The key of `table`.
    """
    if isinstance(table, Path) and at[-1] in _SECRETS:
        yield at, table
    elif isinstance(table, (StrictModel, dict)):
        for name, value in dict(table).items():
            yield from secret_files(value, (*at, name))


def fingerprint(key: Key, path: Path) -> str:
    """Returns the SHA-256 of the file that a key names.

    Raises:
        ConfigError: It can't be read, or other users may change it or read a secret in it.
    """
    try:
        return hashlib.sha256(_read(path, private=key[-1] in _PRIVATE)).hexdigest()
    except ConfigError as error:
        raise ConfigError(f"{dotted(key)}: {error}") from error


def fingerprints(config: StrictModel) -> dict[Key, str]:
    """Returns the `fingerprint` of every secret and certificate, by its key.

    Raises:
        ConfigError: One of them can't be used.
    """
    return {key: fingerprint(key, path) for key, path in secret_files(config)}


def _read(path: Path, *, private: bool) -> bytes:
    """Reads a whole file; refuses what is no regular file, or open to other users."""
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


def resolve(table: dict[str, Any], origin: Callable[[Key], Path]) -> None:
    """Makes the paths in a configuration's tables absolute, in place.

    Args:
        table: The tables as read; values of a wrong type are left to the models.
        origin: Returns the file that set a key.

    Raises:
        ConfigError: A path is empty.
    """
    for key in list(_path_keys(table, Config)):
        _replace(table, key, origin, _secret if key[-1] in _SECRETS else _beside)
    cameras = table.get("camera")
    for name, camera in cameras.items() if isinstance(cameras, dict) else ():
        if isinstance(camera, dict) and _is_path(camera.get("source"), camera.get("kind", "auto")):
            _replace(table, ("camera", name, "source"), origin, _beside)


def _path_keys(value: object, declared: Any, at: Key = ()) -> Iterator[Key]:  # noqa: ANN401 - a type
    """Yields the keys of all paths in tables as read, by the fields of the models.

    Args:
        value: The tables, or a value in them.
        declared: The type that the models declare for it.
        at: The key of `value`.
    """
    if declared is Path:
        yield at
    elif isinstance(value, dict) and isinstance(declared, type) and issubclass(declared, BaseModel):
        for name, below in value.items():
            if name in declared.model_fields:
                yield from _path_keys(below, declared.model_fields[name].annotation, (*at, name))
    elif isinstance(value, dict) and get_origin(declared) is dict:
        for name, below in value.items():
            yield from _path_keys(below, get_args(declared)[1], (*at, name))
    else:  # of a union, any
        for one in get_args(declared):
            yield from _path_keys(value, one, at)


def _is_path(source: Any, kind: Any) -> bool:  # noqa: ANN401 - not checked yet
    """Says whether a camera's source is a path, by its form and not by what exists."""
    written = isinstance(source, str) and source != ""
    return written and (kind in ON_DISK or (kind == "auto" and is_path(source)))


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
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    given = credentials and os.path.lexists(Path(credentials, path))
    return _beside(path, Path(credentials) if credentials and given else folder)
