"""The web server: a thread of the daemon."""

from __future__ import annotations

import socket
import ssl
import threading
import time

from ..config.models import WebConfig
from ..config.secrets import read_secret
from ..errors import BackendUnavailableError, ConfigError
from ..installation import install_line
from .control import Control

try:
    import uvicorn
    from prometheus_client import CollectorRegistry

    from .app import build
    from .guard import Access, is_loopback
    from .protocol import Protocol, Server
    from .sessions import Sessions
except ImportError as error:
    raise BackendUnavailableError(
        f"the web server needs {error.name}, which is not installed. Run "
        f"`{install_line('service')}`, or set enabled = false in [web]."
    ) from error

_LEAST_TOKEN = 16
_MOST_CONNECTIONS = 256
_STREAM_S = 3600.0
_START_S = 10.0
_GRACE_S = 1


class WebServer:
    """Serves a station's page and API, in a thread that ends with `stop`.

    Args:
        config: `[web]`.
        control: The station.
        registry: Of its metrics.
        stream_s: How long a stream goes on before its viewer must ask again.

    Raises:
        ConfigError: Bound wider than loopback without token and TLS; or these can't be read.
    """

    def __init__(
        self,
        config: WebConfig,
        control: Control,
        registry: CollectorRegistry,
        *,
        stream_s: float = _STREAM_S,
    ) -> None:
        access = access_of(config)
        self._config = config
        self._stopping = threading.Event()
        app = build(control, registry, access, stream_s=stream_s, stopping=self._stopping)
        self._server = Server(_settings(config, app))
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the page is; once it has started."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        scheme = "https" if self._config.tls is not None else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Binds the port and serves.

        Raises:
            ConfigError: The address can't be bound, or the certificate not be used.
        """
        _load(self._server.config)
        self._socket = _bind(self._config)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()
        until = time.monotonic() + _START_S
        while not self._server.started and self.alive and time.monotonic() < until:
            time.sleep(0.005)

    def _run(self) -> None:
        assert self._socket is not None
        self._server.run([self._socket])

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends all connections, streams among them, and the thread."""
        self._stopping.set()
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._socket is not None:
            self._socket.close()


def access_of(config: WebConfig) -> Access:
    """Returns who may ask what.

    Raises:
        ConfigError: Bound wider than loopback without token and TLS; or these can't be used.
    """
    loopback = is_loopback(config.host)
    if config.tls is not None and config.tls.certificate is None:
        raise ConfigError("web.tls: the server needs a certificate and its key")
    if config.tls is not None and config.tls.ca is not None:
        raise ConfigError("web.tls.ca: clients are known by the token; leave it out")
    if not loopback and (config.token_file is None or config.tls is None):
        raise ConfigError(
            f"web.host: {config.host!r} is wider than loopback, where anybody may ask: give "
            "web.token_file and web.tls (certificate, key), or bind 127.0.0.1"
        )
    if config.token_file is None:
        return Access(loopback, config.changes, None, config.tls is not None)
    token = read_secret(config.token_file)
    if len(token) < _LEAST_TOKEN:
        raise ConfigError(
            f"web.token_file: a token of {len(token)} characters can be guessed; give at least "
            f"{_LEAST_TOKEN} (`openssl rand -hex 32`)"
        )
    return Access(loopback, config.changes, Sessions(token), config.tls is not None)


def _settings(config: WebConfig, app: object) -> uvicorn.Config:
    tls = config.tls
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=tls.certificate if tls is not None else None,
        ssl_keyfile=tls.key if tls is not None else None,
    )


def _load(settings: uvicorn.Config) -> None:
    try:
        settings.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"web.tls: {settings.ssl_certfile} and {settings.ssl_keyfile} can't be used ({error})"
        ) from error


def _bind(config: WebConfig) -> socket.socket:
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"web.host: {config.host!r} is no address ({error})") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"web.port: {config.host} port {config.port} can't be used "
            f"({error.strerror or error}); give another"
        ) from error
    listening.setblocking(False)
    return listening
