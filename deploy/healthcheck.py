"""Asks the station of this container whether every stage makes progress; exits with 0 if so.

It asks a socket in the state folder, not the page: no token leaves this process, and nobody on
the network can keep the answer away.
"""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

from differnet_runtime.config import load_config
from differnet_runtime.errors import DifferNetError
from differnet_runtime.station.health_socket import NAME, ask

TIMEOUT_S = 4.0


def main() -> int:
    """Returns 0 if the station lives, else 1."""
    try:
        state = load_config(Path(os.environ["DIFFERNET_CONFIG"])).config.station.state
    except DifferNetError as error:
        return failed(error)
    try:
        status = ask(state, "/livez", TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        return failed(f"{state / NAME}: nobody answers ({error}); is the station running?")
    return 0 if status == http.HTTPStatus.OK else failed(f"/livez: {status}")


def failed(why: object) -> int:
    """Says why; returns the exit code."""
    sys.stderr.write(f"{why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
