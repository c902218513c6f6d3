"""Stands before every route: who may ask, from which page, and what a browser may do with it."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..sentences import sentence
from .answers import Problem, problem
from .connections import sender_of
from .pace import Pace
from .pages import login_page
from .sessions import COOKIE, Sessions, session_name
from .troubles import Troubles

LOGIN, LOGOUT = "/login", "/logout"
_READING = ("GET", "HEAD", "OPTIONS")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(r"([A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")
_MOST_HEAD, _MOST_HEADERS = 32 << 10, 100
_GUESSES = "too many wrong tokens came from your address; wait a minute, or send the right one"
ANYBODY = "anybody"
"""Who asks a server without a token."""

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """What the configuration allows.

    Args:
        loopback: Bound to loopback: then only its own names are answered to.
        changes: Models may be switched and parts triggered.
        sessions: None where no token is needed.
        tls: The connection is encrypted.
    """

    loopback: bool
    changes: bool
    sessions: Sessions | None
    tls: bool = False


class Guard:
    """Slows down the hasty, refuses what may not pass, and adds the headers of every answer.

    Args:
        app: Behind it.
        access: See `Access`.
        troubles: Counts wrong tokens.
    """

    def __init__(self, app: ASGIApp, access: Access, troubles: Troubles) -> None:
        self._app = app
        self._access, self._troubles = access, troubles
        self._pace = Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        assert scope["type"] == "http"  # neither lifespan nor websockets are served

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        if wait_s := self._pace.wait_s(sender_of(request.client.host if request.client else "")):
            await asyncio.sleep(wait_s)
        answer = self._refusal(request) or self._app
        if request.method == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out
        await answer(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        return (
            self._malformed(request)
            or self._foreign_name(request)
            or self._unknown_person(request)
            or self._foreign_page(request)
            or self._unwanted_change(request)
        )

    def _malformed(self, request: Request) -> Response | None:
        """The parser limits only heads that come in pieces, and lets much else pass."""
        headers = request.scope["headers"]
        length = len(request.scope["raw_path"]) + len(request.scope["query_string"])
        length += sum(len(name) + len(value) for name, value in headers)
        if request.scope["http_version"] not in ("1.0", "1.1"):
            return problem(400, Problem(error="this server speaks HTTP/1.1"))
        if any(_CONTROL.search(value) for _, value in headers):
            return problem(400, Problem(error="a header holds a control character"))
        hosts = request.headers.getlist("host")
        if len(hosts) > 1 or not all(_HOST.fullmatch(host) for host in hosts):
            return problem(400, Problem(error="the Host header is not a host or host:port"))
        if length <= _MOST_HEAD and len(headers) <= _MOST_HEADERS:
            return None
        return problem(431, Problem(error="the request's address and headers are too long"))

    def _foreign_name(self, request: Request) -> Response | None:
        """A foreign page can point its own name at 127.0.0.1, but not change the Host header."""
        if not self._access.loopback or is_loopback(_host_of(request.headers.get("host", ""))):
            return None
        return problem(
            421,
            Problem(error="the Host header is not a loopback name", what_to_do="ask localhost"),
        )

    def _unknown_person(self, request: Request) -> Response | None:
        sessions = self._access.sessions
        secret, token = request.cookies.get(COOKIE, ""), _bearer(request)
        request.state.by = ANYBODY
        if sessions is None or (_path(request) == LOGIN and request.method == "POST"):
            return None
        if sessions.known(secret):
            request.state.by = session_name(secret)
            return None
        address = request.client.host if request.client else ""
        if token is not None:
            if sessions.right(token, address):
                request.state.by = "token"
                return None
            self._troubles.note("wrong_token", address)
            if sessions.guesses(address):
                return too_many_guesses()
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return login_page(401, "login.token", request.headers.get("accept-language", ""))
        what = Problem(error="a token is needed", what_to_do="send `Authorization: Bearer TOKEN`")
        return problem(401, what, {"www-authenticate": "Bearer"})

    def _foreign_page(self, request: Request) -> Response | None:
        """A browser says from which page a change is asked for; programs say nothing."""
        if request.method in _READING:
            return None
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
        own = f"{request.scope['scheme']}://{request.headers.get('host', '')}"
        if site in ("same-origin", "none") and (origin is None or origin.lower() == own.lower()):
            return None
        return problem(403, Problem(error="another site's page asked for this"))

    def _unwanted_change(self, request: Request) -> Response | None:
        free = request.method in _READING or _path(request) in (LOGIN, LOGOUT)
        if free or self._access.changes:
            return None
        what = Problem(error=sentence("changes_off"), what_to_do="set changes = true in [web]")
        return problem(403, what)


def too_many_guesses() -> Response:
    """Returns the answer to a wrong token that is one of many."""
    return problem(429, Problem(error=_GUESSES), {"retry-after": "60"})


def _path(request: Request) -> str:
    """Returns what routes are found by; `request.url` is put together from the Host header."""
    path: str = request.scope["path"]
    return path


def _bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _host_of(header: str) -> str:
    """Returns the name in a Host header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Returns whether a name or address is loopback's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
