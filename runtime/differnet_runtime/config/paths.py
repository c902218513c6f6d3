"""The files that a configuration names: relative paths, passwords, tokens, keys and certificates.

Secrets are always read from files, never from the configuration itself.
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
from .grammar import ON_DISK, is_path
from .problems import Key, dotted

_PRIVATE = ("password_file", "token_file", "key")
_SECRETS = (*_PRIVATE, "ca", "certificate")
"""Keys of any table that name the file of a secret or a certificate."""
_LONGEST = 1 << 16
"""Bytes of a secret."""
_LARGEST = 4 << 20
"""Bytes of a file; the authorities of a whole system take a quarter of a megabyte."""
_PATHS = (*_SECRETS, "path", "state")
"""Keys of any table whose text is a path."""


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


def resolve(table: dict[str, Any], origin: Callable[[Key], Path], at: Key = ()) -> None:
    """Makes the paths in a configuration's tables absolute, in place.

    Args:
        table: The tables as read, or one of them; values of a wrong type are left to the models.
        origin: Returns the file that set a key.
        at: The key of `table`.

    Raises:
        ConfigError: A path is empty.
    """
    for name, value in table.items():
        key = (*at, name)
        if isinstance(value, dict):
            resolve(value, origin, key)
        elif isinstance(value, str) and not value.startswith("/") and _is_path(table, name):
            if not value:
                raise ConfigError(f"{origin(key)}: {dotted(key)}: is empty; expected a path.")
            table[name] = _place(value, name, origin(key).parent)


def _is_path(table: dict[str, Any], name: str) -> bool:
    """Says whether a text is a path; that of a camera's source by its form, not by what exists."""
    if name != "source":
        return name in _PATHS
    source, kind = table["source"], table.get("kind", "auto")
    return source != "" and (kind in ON_DISK or (kind == "auto" and is_path(source)))


def _place(path: str, name: str, folder: Path) -> str:
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if name in _SECRETS and credentials and os.path.lexists(Path(credentials, path)):
        folder = Path(credentials)
    return str(folder / path)
