"""The container's health check tells a station that lives from one that does not."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import require

SCRIPT = Path(__file__).parents[2] / "deploy" / "healthcheck.py"
STATION = '[model]\nbackend = "fake"\n[camera.top]\nsource = "0"\n[web]\n'


class Answer(http.server.BaseHTTPRequestHandler):
    status, token = 200, ""

    def do_GET(self) -> None:
        right = not self.token or self.headers["Authorization"] == f"Bearer {self.token}"
        found = self.status if self.path == "/livez" else 404
        self.send_response(found if right else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[http.server.ThreadingHTTPServer]:
    Answer.status, Answer.token = 200, ""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def check(folder: Path, web: str) -> int:
    path = folder / "station.toml"
    path.write_text(STATION + web)
    return subprocess.run(
        [sys.executable, SCRIPT],
        env={"DIFFERNET_CONFIG": str(path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
        timeout=60,
    ).returncode


def test_alive_or_not(page: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    port = f"port = {page.server_address[1]}\n"
    assert check(tmp_path, port) == 0
    Answer.status = 503
    assert check(tmp_path, port) == 1
    assert check(tmp_path, "port = 1\n") == 1
    assert check(tmp_path, "prt = 1\n") == 1
    assert check(tmp_path, "enabled = false\n") == 0


def test_with_token_and_certificate(page: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    openssl = require("openssl")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=line3"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    page.socket = context.wrap_socket(page.socket, server_side=True)
    Answer.token = "hunter2" * 4
    (tmp_path / "token").write_text(Answer.token)
    web = f'host = "0.0.0.0"\nport = {page.server_address[1]}\ntoken_file = "token"\n'
    tls = '[web.tls]\ncertificate = "certificate.pem"\nkey = "key.pem"\n'
    assert check(tmp_path, web + tls) == 0
    assert check(tmp_path, web) == 1
    (tmp_path / "token").write_text("another")
    assert check(tmp_path, web + tls) == 1
