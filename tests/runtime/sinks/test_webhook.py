"""Webhooks to a real HTTP server: what it gets, and what its answers mean."""

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from differnet_runtime.config import WebhookConfig
from differnet_runtime.errors import ConfigError, SinkError
from differnet_runtime.sinks import BusyError, Stored
from differnet_runtime.sinks.webhook import WebhookSink
from tests.broker import write_certificates
from tests.servers import free_port

EVENTS = [Stored(1, "a" * 32, '{"id":"a"}'), Stored(2, "b" * 32, '{"id":"b","part":"ü"}')]


class Receiver(ThreadingHTTPServer):
    """Answers as it is told, and remembers what it got."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or _Handler)
        self.status, self.headers, self.body = 204, dict[str, str](), b""
        self.delay_s = 0.0
        self.received: list[tuple[dict[str, str], object]] = []
        self.connections = 0

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), json.loads(data)))
        time.sleep(self.server.delay_s)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        if self.server.status != 204:
            self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiving(
    certificates: Path | None = None, handler: type[BaseHTTPRequestHandler] | None = None
) -> Iterator[Receiver]:
    receiver = Receiver(handler)
    if certificates is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        thread.join()
        receiver.server_close()


def sink_to(url: str, **values: object) -> WebhookSink:
    config = WebhookConfig.model_validate({"url": url, "timeout_s": 10.0, **values})
    return WebhookSink("mes", config)


def test_a_batch_is_a_list_with_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\nrest")
    with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/events"
        sink = sink_to(url, token_file=str(tmp_path / "token"))
        for _ in range(3):
            sink.deliver(EVENTS)
        sink.close()
    headers, body = receiver.received[0]
    assert body == [{"id": "a"}, {"id": "b", "part": "ü"}]
    assert headers["Authorization"] == "Bearer t0ken"
    assert headers["Content-Type"] == "application/json"
    assert len(receiver.received) == 3
    assert receiver.connections == 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 408, 500, 503])
def test_anything_but_2xx_is_sent_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as receiver:
        receiver.status, receiver.headers = status, {"Location": "http://127.0.0.1:1/"}
        sink = sink_to(f"http://127.0.0.1:{receiver.port}/")
        with pytest.raises(SinkError, match=f"answered {status}"):
            sink.deliver(EVENTS)
        receiver.status = 200
        sink.deliver(EVENTS)
        sink.close()
    assert len(receiver.received) == 2
    assert ("refuses these events" in caplog.text) == (status in (400, 401, 404))


def test_a_refusal_is_logged_once_until_events_are_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with receiving() as receiver:
        sink = sink_to(f"http://127.0.0.1:{receiver.port}/")
        for status in (404, 404, 503, 404, 401, 401, 404, 200, 404, 404):
            receiver.status = status
            try:
                sink.deliver(EVENTS)
            except SinkError:
                assert status != 200
        sink.close()
    logged = [record.getMessage().split("answered ")[1][:3] for record in caplog.records]
    assert logged == ["404", "401", "404"]


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("date", 30.0), ("soon", None)])
def test_retry_after_is_honoured(value: str, seconds: float | None) -> None:
    if value == "date":
        value = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    with receiving() as receiver:
        receiver.status, receiver.headers = 429, {"Retry-After": value}
        sink = sink_to(f"http://127.0.0.1:{receiver.port}/")
        with pytest.raises(SinkError) as raised:
            sink.deliver(EVENTS)
        sink.close()
    if seconds is None:
        assert not isinstance(raised.value, BusyError)
    else:
        assert isinstance(raised.value, BusyError)
        assert seconds - 5 <= raised.value.retry_after_s <= seconds


def test_no_answer_is_an_error_without_the_address() -> None:
    sink = sink_to(f"http://me:hidden@127.0.0.1:{free_port()}/hidden?token=hidden")
    with pytest.raises(SinkError, match="no answer") as raised:
        sink.deliver(EVENTS)
    assert "hidden" not in str(raised.value)
    with receiving() as receiver:
        receiver.delay_s = 2.0
        slow = sink_to(f"http://127.0.0.1:{receiver.port}/", timeout_s=0.3)
        with pytest.raises(SinkError, match="no answer"):
            slow.deliver(EVENTS)


def test_an_answer_without_end_is_not_read() -> None:
    with receiving() as receiver:
        receiver.status, receiver.body = 200, b"x" * (1 << 20)
        sink = sink_to(f"http://127.0.0.1:{receiver.port}/")
        for _ in range(3):
            sink.deliver(EVENTS)
        sink.close()
    assert len(receiver.received) == 3


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_short_answer_is_read_and_the_connection_used_again(status: int) -> None:
    with receiving() as receiver:
        receiver.status, receiver.body = status, b"" if status == 204 else b"taken"
        sink = sink_to(f"http://127.0.0.1:{receiver.port}/")
        for _ in range(3):
            sink.deliver(EVENTS)
        sink.close()
    assert receiver.connections == 1


@pytest.mark.parametrize("tls", [False, True])
def test_a_head_in_drops_holds_nothing_up(tmp_path: Path, tls: bool) -> None:
    """The whole would take half a minute; each drop comes in time."""
    ended = threading.Event()
    certificates = write_certificates(tmp_path / "tls") if tls else None

    class Dropping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with contextlib.suppress(OSError):
                for drop in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500:
                    self.wfile.write(bytes([drop]))
                    if ended.wait(0.05):
                        return

        def log_message(self, *_: object) -> None:
            pass

    with receiving(certificates, Dropping) as receiver:
        scheme = "https" if tls else "http"
        ca = {"tls": {"ca": str(certificates / "ca.pem")}} if certificates else {}
        sink = sink_to(f"{scheme}://localhost:{receiver.port}/", timeout_s=1.0, **ca)
        with pytest.raises(SinkError, match="no answer: it took too long"):
            sink.deliver(EVENTS)
        ended.set()


def test_an_answer_in_drops_holds_nothing_up() -> None:
    dropping = threading.Event()

    class Dropping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "4096")
            self.end_headers()
            with contextlib.suppress(OSError):
                while not dropping.wait(0.05):  # 200 s in all
                    self.wfile.write(b"x")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Dropping) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        sink_to(f"http://127.0.0.1:{server.server_address[1]}/", timeout_s=0.3).deliver(EVENTS)
        dropping.set()
        server.shutdown()
        thread.join()


def test_tls_needs_the_right_authority(tmp_path: Path) -> None:
    right, wrong = (write_certificates(tmp_path / name) for name in ("right", "wrong"))
    with receiving(right) as receiver:
        url = f"https://localhost:{receiver.port}/"
        sink_to(url, tls={"ca": str(right / "ca.pem")}).deliver(EVENTS)
        for tls in ({"ca": str(wrong / "ca.pem")}, None):
            with pytest.raises(SinkError, match="certificate is not valid"):
                sink_to(url, tls=tls).deliver(EVENTS)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_bad_authority_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        sink_to("https://localhost/", tls={"ca": str(path)})
