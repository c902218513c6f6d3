"""An HTTP camera: sends chunks at its pace, as a transport stream or as JPEG after JPEG."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tests.servers import require

MULTIPART = "multipart/x-mixed-replace; boundary=frame"
TRANSPORT_STREAM = "video/mp2t"


def part(data: bytes, length: int | None = None) -> bytes:
    """Returns a JPEG as a part of a multipart answer."""
    told = len(data) if length is None else length
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {told}\r\n\r\n"
    return head.encode() + data + b"\r\n"


def live_transport_stream(path: Path) -> Iterator[bytes]:
    """Yields a clip as a transport stream at its own speed, again and again, its time going on."""
    ffmpeg = [require("ffmpeg"), "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", str(path)]
    command = [*ffmpeg, "-c", "copy", "-flush_packets", "1", "-f", "mpegts", "pipe:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while data := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
                yield data
        finally:
            process.kill()


@contextlib.contextmanager
def http_camera(
    chunks: Sequence[bytes] | Callable[[], Iterable[bytes]],
    kind: str,
    interval_s: float = 0.0,
    certificates: Path | None = None,
) -> Iterator[str]:
    """Serves the chunks to each client, from the first to the last; yields the URL.

    With a folder of `write_certificates` it speaks TLS, as `localhost`.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            due_s = time.monotonic()
            sent = chunks() if callable(chunks) else chunks
            with contextlib.suppress(OSError):
                for chunk in sent:
                    self.wfile.write(chunk)
                    due_s += interval_s
                    time.sleep(max(0.0, due_s - time.monotonic()))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            scheme = "http" if certificates is None else "https"
            host = "127.0.0.1" if certificates is None else "localhost"
            yield f"{scheme}://{host}:{server.server_port}/video"
        finally:
            server.shutdown()
            serving.join()
