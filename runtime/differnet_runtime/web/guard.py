"""The checks in front of every route: token or session, host, origin and rate of requests.

Also the routes for login and logout, on stations that need a token.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import APIRouter
from pydantic import Field, ValidationError
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..model_file.contract import StrictModel
from ..sentences import sentence
from .answers import Problem, Refused, Troubles, of_faults, problem
from .connections import sender_of
from .pages import HTML, login_page
from .routes import Nothing
from .routing import Call, CallDep, StationRoute, read_body, require_media

PER_S, BURST = 100.0, 300.0
"""Rate limit of an address in requests per second, and the burst that it allows. A page asks for
each camera's picture at most five times a second."""
_MOST_PACED = 4096


class Pace:
    """Limits the rate of each sender's requests with a token bucket; used by one thread.

    A request above the limit is not refused, but delayed together with its connection.

    Args:
        clock: Returns the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due_s: dict[str, float] = {}

    def wait_s(self, sender: str) -> float:
        """Counts a request, and returns its delay in seconds.

        Args:
            sender: Identifies the sender, for example by its address.
        """
        now_s = self._clock()
        earliest_s = now_s - BURST / PER_S
        due_s = max(self._due_s.pop(sender, earliest_s), earliest_s)
        if len(self._due_s) >= _MOST_PACED:
            self._due_s.pop(next(iter(self._due_s)))  # who has been silent for longest
        self._due_s[sender] = due_s + 1.0 / PER_S
        return max(0.0, round(due_s - now_s, 6))


COOKIE = "differnet_session"
SESSION_S = 12 * 3600
_MOST_SESSIONS = 256
_MOST_FAILURES, _WINDOW_S, _MOST_SENDERS = 10, 60.0, 1024


class Sessions:
    """Checks tokens in constant time, and keeps the sessions that they have opened.

    The right token is always accepted, even from an address that sends many wrong ones.

    Args:
        token: The right token.
    """

    def __init__(self, token: str) -> None:
        self._token = _digest(token)
        self.tokens = 1
        """Number of tokens so far; a new one ends what the previous one has opened."""
        self._sessions: OrderedDict[bytes, float] = OrderedDict()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def replace(self, token: str) -> None:
        """Replaces the token; another one ends all sessions."""
        if not hmac.compare_digest(_digest(token), self._token):
            self._token, self.tokens = _digest(token), self.tokens + 1
            self._sessions.clear()

    def guesses(self, address: str) -> bool:
        """Returns whether an address has sent so many wrong tokens that others get status 429."""
        count, since_s = self._failures.get(sender_of(address), (0, 0.0))
        return count > _MOST_FAILURES and time.monotonic() - since_s < _WINDOW_S

    def right(self, token: str, address: str) -> bool:
        """Returns whether a token is right; a wrong one counts against its sender."""
        if hmac.compare_digest(_digest(token), self._token):
            return True
        sender, now = sender_of(address), time.monotonic()
        count, since_s = self._failures.pop(sender, (0, 0.0))
        if now - since_s >= _WINDOW_S:
            count, since_s = 0, now
        self._failures[sender] = (count + 1, since_s)
        while len(self._failures) > _MOST_SENDERS:
            self._failures.popitem(last=False)
        return False

    def begin(self) -> str:
        """Starts a session, and returns its secret for a cookie."""
        secret = secrets.token_urlsafe(32)
        self._sessions[_digest(secret)] = time.monotonic() + SESSION_S
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return secret

    def known(self, secret: str) -> bool:
        """Returns whether a session with this secret is active."""
        return self._sessions.get(_digest(secret), 0.0) > time.monotonic()

    def end(self, secret: str) -> None:
        """Ends a session."""
        self._sessions.pop(_digest(secret), None)


def session_name(secret: str) -> str:
    """Returns the name of a session in the audit trail, which does not reveal its secret."""
    return f"session {_digest(secret).hex()[:8]}"


def _digest(secret: str) -> bytes:
    """Returns a hash of a secret, so that the time of a look-up reveals nothing about it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


LOGIN, LOGOUT = "/login", "/logout"
_READING = ("GET", "HEAD", "OPTIONS")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(r"([A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")
_MOST_HEAD, _MOST_HEADERS = 32 << 10, 100
_GUESSES = "too many wrong tokens came from your address; wait a minute, or send the right one"
ANYBODY = "anybody"
"""Author of requests to a server without a token, in the audit trail."""

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
    """The access that the configuration allows.

    Args:
        loopback: Whether the server listens on loopback, so that the Host header must name it.
        changes: Whether changes over HTTP are allowed.
        sessions: Token and sessions; None if no token is needed.
        tls: Whether connections are encrypted.
    """

    loopback: bool
    changes: bool
    sessions: Sessions | None
    tls: bool = False


class Guard:
    """ASGI middleware that limits rates, refuses forbidden requests and adds security headers.

    Args:
        app: The application behind it.
        access: The access that is allowed.
        troubles: Counts wrong tokens.
    """

    def __init__(self, app: ASGIApp, access: Access, troubles: Troubles) -> None:
        self._app = app
        self._access, self._troubles = access, troubles
        self._pace = Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
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
        answer = (
            self._malformed(request)
            or self._foreign_name(request)
            or self._unknown_person(request)
            or self._foreign_page(request)
            or self._unwanted_change(request)
            or self._app
        )
        if request.method == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out
        await answer(scope, receive, send_guarded)

    def _malformed(self, request: Request) -> Response | None:
        """Refuses malformed and long heads; the parser limits only heads that come in pieces."""
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
        path = request.scope["path"]  # not of `request.url`, which depends on the Host header
        if sessions is None or (path == LOGIN and request.method == "POST"):
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
        free = request.method in _READING or request.scope["path"] in (LOGIN, LOGOUT)
        if free or self._access.changes:
            return None
        what = Problem(error=sentence("changes_off"), what_to_do="set changes = true in [web]")
        return problem(403, what)


def too_many_guesses() -> Response:
    """Returns the response after too many wrong tokens, with status 429."""
    return problem(429, Problem(error=_GUESSES), {"retry-after": "60"})


def _bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _host_of(header: str) -> str:
    """Returns the name in a Host header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Returns whether a host name or an address is a loopback one."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_FORM = "application/x-www-form-urlencoded"
P = TypeVar("P", bound=StrictModel)
router = APIRouter(route_class=StationRoute, default_response_class=Response)


class Login(StrictModel):
    """The content of the login form."""

    token: Annotated[str, Field(max_length=4096)]


def _form(model: type[StrictModel]) -> dict[str, Any]:
    """Describes a form; FastAPI's own forms need a package that also parses uploaded files."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {_FORM: {"schema": schema}}}}


async def _read_form(request: Request, model: type[P]) -> P:
    require_media(request, _FORM)
    data = await read_body(request)
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise Refused(400, "the body is not a form") from error
    if len(dict(pairs)) != len(pairs):
        raise Refused(422, "a key appears twice")
    try:
        return model.model_validate(dict(pairs))
    except ValidationError as error:
        raise of_faults(error.errors()) from error


def _access(call: Call) -> tuple[Sessions, bool]:
    access: Access = call.request.app.state.access
    assert access.sessions is not None  # these routes exist only with a token
    return access.sessions, access.tls


@router.post(
    LOGIN,
    status_code=303,
    response_description="To the page.",
    responses={401: {"description": "The token is wrong.", "content": {HTML: {}}}},
    openapi_extra=_form(Login),
)
async def login(call: CallDep) -> Response:
    """Starts a session."""
    form = await _read_form(call.request, Login)
    sessions, secure = _access(call)
    if not sessions.right(form.token, call.address):
        call.control.troubles.note("wrong_token", call.address)
        if sessions.guesses(call.address):
            return too_many_guesses()
        languages = call.request.headers.get("accept-language", "")
        return login_page(401, "login.wrong", languages)
    secret = sessions.begin()
    call.control.audit.add("login", session_name(secret), address=call.address)
    response = Response(status_code=303, headers={"location": "/"})
    response.set_cookie(COOKIE, secret, SESSION_S, httponly=True, samesite="strict", secure=secure)
    return response


@router.post(
    LOGOUT, status_code=303, response_description="To the form.", openapi_extra=_form(Nothing)
)
async def logout(call: CallDep) -> Response:
    """Ends a session."""
    await _read_form(call.request, Nothing)
    sessions, secure = _access(call)
    sessions.end(call.request.cookies.get(COOKIE, ""))
    call.control.audit.add("logout", call.by, address=call.address)
    response = Response(status_code=303, headers={"location": "/"})
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=secure)
    return response
