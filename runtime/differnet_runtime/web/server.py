"""The web server: a thread of the daemon."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

from ..config.models import WebConfig
from ..errors import BackendUnavailableError, ConfigError
from ..installation import install_line
from .control import Control

try:
    import uvicorn
    from prometheus_client import CollectorRegistry

    from .app import build
    from .connections import Connections, Listener
    from .guard import Access, is_loopback
    from .secrets import WebSecrets, changeable, read_web_secrets
    from .sessions import Sessions
    from .troubles import tell
except ImportError as error:
    raise BackendUnavailableError(
        f"the web server needs {error.name}, which is not installed. Run "
        f"`{install_line('service')}`."
    ) from error

_STREAM_S = 3600.0
_START_S = 10.0
_GRACE_S = 1
_LAST_WORDS_S = 0.2
_SWEEP_S = 0.25
_IDLE_S = 10
"""Between two requests, where nothing of the second has come; less than `connections.HEAD_S`."""
_TAKE_S = 1.0
_AT_ONCE = 32
"""Connections accepted before those that are open get their turn."""


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
        secrets = read_web_secrets(config)
        access = _access(config, secrets)
        self._config, self._sessions = config, access.sessions
        self._certificate = secrets.certificate
        self._loop: asyncio.AbstractEventLoop | None = None
        self._control = control
        self._stopping = threading.Event()
        self._connections = connections = Connections(control.troubles)
        app = build(
            control, registry, access, connections, stream_s=stream_s, stopping=self._stopping
        )
        self._server = uvicorn.Server(_settings(app))
        self._socket: Listener | None = None
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

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def start(self) -> None:
        """Binds the port and serves.

        Raises:
            ConfigError: The address can't be bound.
        """
        self._server.config.load()
        if self._certificate is not None:
            self._server.config.ssl = changeable(lambda: self._certificate)
        self._socket = self._bind()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()
        until = time.monotonic() + _START_S
        while not self._server.started and self.alive and time.monotonic() < until:
            time.sleep(0.005)

    def use(self, secrets: WebSecrets) -> None:
        """Takes over another token and certificate, for what is asked from now on.

        Sessions and streams that another token opened end; other connections go on.
        """
        done = threading.Event()

        def take() -> None:
            if self._sessions is not None and secrets.token is not None:
                self._sessions.replace(secrets.token)
            self._certificate = secrets.certificate
            done.set()

        assert self._loop is not None
        self._loop.call_soon_threadsafe(take)  # never between a token's check and its session
        done.wait(_TAKE_S)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        assert self._socket is not None
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._failed)
        watching = loop.create_task(self._watch())
        try:
            await self._server.serve([self._socket])
            await self._empty(_LAST_WORDS_S)
        finally:
            self._connections.drop_all()
            await self._empty(_LAST_WORDS_S)
            watching.cancel()

    async def _watch(self) -> None:
        """Ends what has waited too long, and tells of troubles."""
        while True:
            self._connections.sweep()
            for trouble in self._control.troubles.due():
                if trouble.kind == "wrong_token":
                    self._control.audit.add(
                        "wrong_token", "stranger", address=trouble.sender, count=trouble.count
                    )
                else:
                    tell(trouble)
            await asyncio.sleep(_SWEEP_S)

    async def _empty(self, timeout_s: float) -> None:
        """Waits until no connection is open, or the time is up."""
        until = time.monotonic() + timeout_s
        while len(self._connections) and time.monotonic() < until:
            await asyncio.sleep(0.01)

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Counts what asyncio would write a traceback of, for each connection that fails."""
        error = context.get("exception")
        why = f"{context['message']}: {error!r}" if error is not None else context["message"]
        self._control.troubles.note("connection", detail=why)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends all connections, streams among them, and the thread."""
        self._stopping.set()
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._socket is not None:
            self._socket.close()

    def _bind(self) -> Listener:
        host, port = self._config.host, self._config.port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConfigError(f"web.host: {host!r} is no address ({error})") from error
        family, address = found[0][0], found[0][4]
        try:
            return Listener(family, address, self._connections, self._control.troubles)
        except OSError as error:
            raise ConfigError(
                f"web.port: {host} port {port} can't be used ({error.strerror or error}); give "
                "another"
            ) from error


def access_of(config: WebConfig) -> Access:
    """Returns who may ask what.

    Raises:
        ConfigError: See `read_web_secrets`.
    """
    return _access(config, read_web_secrets(config))


def _access(config: WebConfig, secrets: WebSecrets) -> Access:
    sessions = None if secrets.token is None else Sessions(secrets.token)
    return Access(is_loopback(config.host), config.changes, sessions, config.tls is not None)


def _settings(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",  # what it would say of each connection, `Troubles` counts
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_AT_ONCE,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
