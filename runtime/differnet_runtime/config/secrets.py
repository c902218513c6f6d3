"""Passwords and tokens, which a configuration only names the file of."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Set by systemd (`LoadCredential=`): the folder that relative paths of secrets start from."""


def read_secret(path: Path) -> str:
    """Returns a file's first line, without the space around it.

    Args:
        path: Relative to `$CREDENTIALS_DIRECTORY` where that is set.

    Raises:
        ConfigError: It can't be read, or its first line is empty; the message never has the text.
    """
    folder = os.environ.get(CREDENTIALS_VARIABLE)
    full = Path(folder, path) if folder else path
    try:
        with full.open(encoding="utf-8") as file:
            secret = file.readline(65536).strip()
    except OSError as error:
        raise ConfigError(
            f"{full}: the secret can't be read ({error.strerror or error})"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{full}: the secret is not UTF-8 text") from error
    if not secret:
        raise ConfigError(f"{full}: its first line is empty; write the secret there")
    return secret
