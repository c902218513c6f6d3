"""The web server in a thread of the station: its secrets, the application, start and stop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from ..config.models import TlsConfig, WebConfig
from ..config.paths import read_secret
from ..errors import ConfigError
from ..model_file.contract import StrictModel
from ..sinks.tls import load_pair
from . import guard, pages, routes, streams, teach_routes
from .answers import JSON, of_status, tell
from .connections import Connections, Deadlines, Listener
from .control import Control
from .guard import Access, Guard, Sessions, is_loopback
from .routing import ALWAYS, OF_TOKENS, CallDep, StationRoute, Threads, media

_LEAST_TOKEN = 16


@dataclass(frozen=True)
class WebSecrets:
    """The token and the certificate in the files that `[web]` names.

    Args:
        token: The token; None if none is needed.
        certificate: TLS context with certificate and key; None without TLS.
    """

    token: str | None
    certificate: ssl.SSLContext | None


def read_web_secrets(config: WebConfig) -> WebSecrets:
    """Reads token, certificate and key.

    Raises:
        ConfigError: The host is wider than loopback without token and TLS, or they can't be used.
    """
    loopback = is_loopback(config.host)
    if config.tls is not None and config.tls.certificate is None:
        raise ConfigError("web.tls: the server needs a certificate and its key")
    if config.tls is not None and config.tls.ca is not None:
        raise ConfigError("web.tls.ca: clients are identified by the token; leave it out")
    if not loopback and (config.token_file is None or config.tls is None):
        raise ConfigError(
            f"web.host: {config.host!r} is wider than loopback, where anybody can connect: give "
            "web.token_file and web.tls (certificate, key), or bind 127.0.0.1"
        )
    token = None
    if config.token_file is not None:
        token = read_secret(config.token_file)
        if len(token) < _LEAST_TOKEN:
            raise ConfigError(
                f"web.token_file: a token of {len(token)} characters can be guessed; give at "
                f"least {_LEAST_TOKEN} (`openssl rand -hex 32`)"
            )
    return WebSecrets(token, _server_context(config.tls) if config.tls is not None else None)


def changeable(current: Callable[[], ssl.SSLContext | None]) -> ssl.SSLContext:
    """Returns a TLS context that takes the current certificate for each new connection.

    Args:
        current: Returns the context with the current certificate; called in each handshake.
    """

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: object) -> None:
        if (context := current()) is not None:
            connection.context = context

    outer = _context()
    outer.sni_callback = choose  # called without a name, too
    return outer


def _server_context(tls: TlsConfig) -> ssl.SSLContext:
    context = _context()
    load_pair(context, tls, "web.tls")
    return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


_READS, _CHANGES, _HEALTH = 16, 72, 4
"""Maximum numbers of calls at once; 64 cameras can wait for a part while models are switched."""

own = APIRouter(route_class=StationRoute)
ROUTERS = (
    pages.router,
    routes.router,
    teach_routes.router,
    streams.router,
    own,
)
"""The routers of every station; with a token, `guard.router` is added."""


class Allowed(StrictModel):
    """What may be done over HTTP.

    Args:
        changes: Whether models may be switched, parts triggered, and so on.
        token: Whether a token is needed, so that there are sessions.
    """

    changes: bool
    token: bool


def build(
    control: Control,
    registry: CollectorRegistry,
    access: Access,
    connections: Connections,
    *,
    stream_s: float,
    stopping: threading.Event,
) -> ASGIApp:
    """Returns the application.

    Args:
        control: The station.
        registry: Registry of its metrics.
        access: The access that is allowed.
        connections: The connections of the server.
        stream_s: Maximum duration of a stream in seconds, after which its viewer asks again.
        stopping: Ends the streams when it is set.
    """
    app = _application(token=access.sessions is not None)
    state = app.state
    state.control, state.registry, state.access = control, registry, access
    state.reads, state.changes, state.health = map(Threads, (_READS, _CHANGES, _HEALTH))
    state.streams = streams.Streams(stream_s, stopping, connections, access.sessions)
    return Deadlines(Guard(app, access, control.troubles), connections, control.troubles)


def _application(*, token: bool) -> FastAPI:
    described = Depends(HTTPBearer(scheme_name="token", auto_error=False))  # `Guard` checks it
    app = FastAPI(
        title="A differnet-edge station",
        version=version("differnet-edge"),
        openapi_url=None,  # described among the others: `description`
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        exception_handlers={HTTPException: of_status},
        responses=ALWAYS | OF_TOKENS if token else ALWAYS,
        dependencies=[described] if token else [],
    )
    for router in (*ROUTERS, guard.router) if token else ROUTERS:
        app.include_router(router)
    return app


def _operation_id(route: APIRoute) -> str:
    words = "".join(one if one.isalnum() else " " for one in route.path).split()
    return "_".join([*sorted(route.methods or ()), *words]).lower()


@own.get("/api/access")
async def allowed(call: CallDep) -> Allowed:
    """What may be done over HTTP."""
    access: Access = call.request.app.state.access
    return Allowed(changes=access.changes, token=access.sessions is not None)


@own.get(
    "/openapi.json",
    response_class=Response,
    responses=media("An OpenAPI document.", JSON),
)
async def description(call: CallDep) -> Response:
    """This description."""
    app: FastAPI = call.request.app
    return JSONResponse(await call.reads.run(app.openapi))  # written when it is first asked for


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
        config: The table `[web]`.
        control: The station.
        registry: Registry of its metrics.
        stream_s: Maximum duration of a stream in seconds, after which its viewer asks again.

    Raises:
        ConfigError: See `read_web_secrets`.
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
        sessions = None if secrets.token is None else Sessions(secrets.token)
        access = Access(is_loopback(config.host), config.changes, sessions, config.tls is not None)
        self._config, self._sessions = config, sessions
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
        """URL of the page; available after `start`."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        scheme = "https" if self._config.tls is not None else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def start(self) -> None:
        """Binds the port, and starts to serve.

        Raises:
            ConfigError: The address can't be bound.
        """
        self._server.config.load()
        if self._certificate is not None:
            self._server.config.ssl = changeable(lambda: self._certificate)
        self._socket = self._bind()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="web", daemon=True
        )
        self._thread.start()
        until = time.monotonic() + _START_S
        while not self._server.started and self.alive and time.monotonic() < until:
            time.sleep(0.005)

    def use(self, secrets: WebSecrets) -> None:
        """Replaces token and certificate for all further requests.

        A new token ends the sessions and streams that the old one opened; connections stay open.
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
        """Drops connections at their deadlines, and reports troubles."""
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
        """Counts a failed connection, for which asyncio would log a traceback."""
        error = context.get("exception")
        why = f"{context['message']}: {error!r}" if error is not None else context["message"]
        self._control.troubles.note("connection", detail=why)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Ends all connections, streams included, and the thread."""
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
