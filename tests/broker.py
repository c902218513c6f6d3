"""A real broker for tests, which can be stopped, killed and started again, and a listener."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.runtime.waiting import wait_for
from tests.servers import free_port, require, wait_for_port

USER, PASSWORD = "station", "s3cret-of-the-line"


class Broker:
    """Mosquitto on loopback.

    Args:
        folder: For its files.
        password: Whether it asks for `USER` and `PASSWORD`.
        certificates: Folder of `write_certificates`: it then speaks TLS.
        extra: Lines for its configuration.
        remembers: Whether it keeps sessions and what waits in them over its own death.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password: bool = False,
        certificates: Path | None = None,
        extra: str = "",
        remembers: bool = False,
    ) -> None:
        self._program = require("mosquitto")
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self._folder = free_port(), folder
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {str(not password).lower()}"]
        if password:
            lines.append(f"password_file {self._write_password(PASSWORD)}")
        if certificates is not None:
            lines += [
                f"cafile {certificates / 'ca.pem'}",
                f"certfile {certificates / 'server.pem'}",
                f"keyfile {certificates / 'server.key'}",
            ]
        if remembers:
            lines += ["persistence true", f"persistence_location {folder}/"]
            lines += ["autosave_on_changes true", "autosave_interval 1"]
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            "\n".join([*lines, "user root", "max_queued_messages 0", extra, ""])
        )
        self._process: subprocess.Popen[bytes] | None = None

    def _write_password(self, password: str) -> Path:
        file = self._folder / "passwords"
        file.write_text(f"{USER}:{password}\n")
        subprocess.run(["mosquitto_passwd", "-U", file], check=True, capture_output=True)
        return file

    def renew(self, password: str) -> None:
        """Takes another password, and its certificates as they are now; it goes on meanwhile."""
        assert self._process is not None
        self._write_password(password)
        self._process.send_signal(signal.SIGHUP)

    @property
    def log(self) -> str:
        """What it has said."""
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", self._config], stdout=log, stderr=log
            )
        wait_for_port(self.port)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Listener:
    """Everything that a broker was told, in order: topic, payload, retained."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self.ready = threading.Event()

    def topics(self) -> set[str]:
        return {topic for topic, _, _ in self.messages}

    def last(self, topic: str) -> bytes | None:
        return next((data for name, data, _ in reversed(self.messages) if name == topic), None)

    def ids(self) -> set[str]:
        """Returns the ids of the events among them."""
        texts = [data for _, data, _ in list(self.messages) if data[:1] == b"{"]
        return {json.loads(text).get("id") for text in texts}

    def on_message(self, _client: Client, _user: object, message: MQTTMessage) -> None:
        self.messages.append((message.topic, message.payload, message.retain))


@contextmanager
def listening(
    port: int,
    pattern: str = "#",
    certificates: Path | None = None,
    session: str | None = None,
    password: str = PASSWORD,
) -> Iterator[Listener]:
    """Listens; with a session's name, a broker that `remembers` keeps what comes meanwhile."""
    listener = Listener()
    client = Client(CallbackAPIVersion.VERSION2, session, clean_session=session is None)
    client.username_pw_set(USER, password)
    if certificates is not None:
        client.tls_set(str(certificates / "ca.pem"))
    client.on_message = listener.on_message
    client.on_connect = lambda *_: client.subscribe(pattern, 1)
    client.on_subscribe = lambda *_: listener.ready.set()
    client.connect("localhost", port)
    client.loop_start()
    try:
        wait_for(listener.ready.is_set)
        yield listener
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def client_of(port: int, name: str = "") -> Iterator[Client]:
    client = Client(CallbackAPIVersion.VERSION2, name)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def write_certificates(folder: Path, days: int = 30) -> Path:
    """Makes an authority (`ca.pem`), and a certificate by it for `localhost` (`server.*`).

    Args:
        folder: Where they are written.
        days: For how long the server's is valid; with -1 it has expired.
    """
    program = require("openssl")
    folder.mkdir(parents=True, exist_ok=True)

    def run(*arguments: str) -> None:
        subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run(
        "req",
        "-x509",
        *key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "30",
        "-subj",
        "/CN=ca",
    )
    run("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days))
    run("x509", "-req", "-in", "server.csr", *signed, "-extfile", "names", "-out", "server.pem")
    return folder
