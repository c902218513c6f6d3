"""Asks the station of this container whether every stage makes progress; exits with 0 if so."""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from pathlib import Path

from differnet_runtime.config import WebConfig, load_config
from differnet_runtime.config.secrets import read_secret
from differnet_runtime.errors import DifferNetError

TIMEOUT_S = 4.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what loopback reaches too


def ask(config: WebConfig) -> int:
    """Returns the status of GET /livez."""
    host = _ANY.get(config.host, config.host)
    connection: http.client.HTTPConnection
    if config.tls is None:
        connection = http.client.HTTPConnection(host, config.port, timeout=TIMEOUT_S)
    else:
        # The certificate names the station as others see it, not loopback; nothing leaves here.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            host, config.port, timeout=TIMEOUT_S, context=context
        )
    headers = {}
    if config.token_file is not None:
        headers["Authorization"] = f"Bearer {read_secret(config.token_file)}"
    try:
        connection.request("GET", "/livez", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def main() -> int:
    """Returns 0 if the station lives, or has no page to be asked at; else 1."""
    try:
        path = Path(os.environ["DIFFERNET_CONFIG"])
        web = load_config(path).config.web
        status = ask(web) if web.enabled else http.HTTPStatus.OK
    except (OSError, http.client.HTTPException, DifferNetError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
