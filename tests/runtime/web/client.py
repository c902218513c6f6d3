"""A client of the station's server, and a certificate for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import urllib3

from differnet_runtime.config.models import TlsConfig, WebConfig
from differnet_runtime.web.server import WebServer
from tests.fakes.station import FakeStation

TOKEN = "0123456789abcdef-the-right-one"
BEARER: Mapping[str, str] = MappingProxyType({"Authorization": f"Bearer {TOKEN}"})


class Client:
    """Asks a server; follows nothing and repeats nothing.

    Args:
        url: Of its page.
        ca: The certificate to trust.
        headers: Sent with each request.
    """

    def __init__(
        self, url: str, *, ca: Path | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.root = url.rstrip("/")
        self.headers = headers or {}
        self._http = urllib3.PoolManager(
            timeout=20, retries=False, ca_certs=str(ca) if ca else None, assert_hostname=False
        )

    def ask(self, method: str, path: str, **sent: Any) -> urllib3.BaseHTTPResponse:
        headers = {**self.headers, **sent.pop("headers", {})}
        return self._http.request(method, self.root + path, headers=headers, redirect=False, **sent)

    def get(self, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        return self.ask("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path: str, body: Any, **headers: str) -> urllib3.BaseHTTPResponse:
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.ask("POST", path, json=body, headers=sent)

    def close(self) -> None:
        self._http.clear()


def of(server: WebServer, **options: Any) -> Client:
    """Returns a client of a server, wherever it is bound to."""
    return Client(server.url.replace("0.0.0.0", "127.0.0.1"), **options)


@contextmanager
def serving(station: FakeStation, config: WebConfig | None = None) -> Iterator[Client]:
    """Yields a client of a station's server, which is stopped in the end."""
    server = WebServer(config or WebConfig(port=0), station, station.registry)
    server.start()
    client = of(server)
    try:
        yield client
    finally:
        client.close()
        server.stop()


def certificate(folder: Path) -> TlsConfig:
    """Makes a certificate of 127.0.0.1's own."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=station",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return TlsConfig(certificate=cert, key=key)


def wide(folder: Path) -> WebConfig:
    """Returns a configuration bound to every address, with token and TLS."""
    token = folder / "token"
    token.write_text(TOKEN + "\n", encoding="utf-8")
    return WebConfig(host="0.0.0.0", port=0, token_file=token, tls=certificate(folder))
