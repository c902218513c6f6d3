"""Passwords and tokens: read from files, never from the configuration itself."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError

_LONGEST = 1 << 16


def read_secret(path: Path) -> str:
    """Returns the first line of a file.

    Args:
        path: Relative to `$CREDENTIALS_DIRECTORY` (systemd's) where that is set.

    Raises:
        ConfigError: It can't be read, or holds nothing.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    whole = Path(credentials, path) if credentials else path
    try:
        with whole.open(encoding="utf-8") as file:
            secret = file.readline(_LONGEST).strip("\r\n")
    except OSError as error:
        raise ConfigError(
            f"{whole}: {error.strerror or error}; a secret is read from there"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{whole}: a secret must be UTF-8 text, in the first line") from error
    if not secret:
        raise ConfigError(f"{whole}: its first line is empty; a secret is read from there")
    return secret
