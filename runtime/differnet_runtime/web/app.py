"""The application: one table of endpoints, the guard before them, their description beside them."""

from __future__ import annotations

import json
import threading
from typing import Annotated

from prometheus_client import CollectorRegistry
from pydantic import Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from ..metadata import Part
from .answers import JSON, answer, of_status
from .connections import Connections
from .control import Control
from .deadlines import Deadlines
from .endpoints import Call, Content, Endpoint
from .guard import LOGIN, LOGOUT, Access, Guard, too_many_guesses
from .label_routes import labelling
from .openapi import describe
from .pages import HTML, login_page, pages
from .routes import Nothing, api, metrics
from .sessions import COOKIE, SESSION_S, Sessions, session_name
from .streams import streams
from .threads import Threads, Workers

_READS, _CHANGES, _HEALTH = 16, 72, 4
"""Calls at once; 64 cameras can each wait for a part, and models still be switched."""


class Allowed(Part):
    """What may be done over HTTP.

    Args:
        changes: Models may be switched and parts triggered.
        token: One is needed, and a session can be ended.
    """

    changes: bool
    token: bool


class Login(Part):
    """The token, from the form."""

    token: Annotated[str, Field(max_length=4096)]


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
        registry: Of its metrics.
        access: Who may ask for what.
        connections: Of the server.
        stream_s: How long a stream goes on before its viewer must ask again.
        stopping: Ends streams.
    """
    endpoints = [
        *pages(),
        *api(),
        *labelling(),
        metrics(registry),
        *streams(stream_s, stopping, connections, access.sessions),
        _allowed(access),
    ]
    if access.sessions is not None:
        endpoints += _logins(access.sessions, control, secure=access.tls)
    endpoints.append(_description(endpoints, token=access.sessions is not None))
    workers = Workers(Threads(_READS), Threads(_CHANGES), Threads(_HEALTH))
    app = Starlette(
        routes=[endpoint.route(control, workers) for endpoint in endpoints],
        exception_handlers={HTTPException: of_status},
    )
    app.router.redirect_slashes = False
    return Deadlines(Guard(app, access, control.troubles), connections, control.troubles)


def _allowed(access: Access) -> Endpoint:
    allowed = Allowed(changes=access.changes, token=access.sessions is not None)

    async def handler(_call: Call) -> Response:
        return answer(allowed)

    text = Content("What may be done over HTTP.", Allowed)
    return Endpoint("GET", "/api/access", "What may be done over HTTP.", handler, {200: text})


def _description(endpoints: list[Endpoint], *, token: bool) -> Endpoint:
    async def handler(_call: Call) -> Response:
        return Response(document, media_type=JSON)

    text = Content("An OpenAPI document.", media=(JSON,))
    own = Endpoint("GET", "/openapi.json", "This description.", handler, {200: text})
    document = json.dumps(describe([*endpoints, own], token=token))
    return own


def _logins(sessions: Sessions, control: Control, *, secure: bool) -> list[Endpoint]:
    async def login(call: Call) -> Response:
        if not sessions.right(call.body.token, call.address):
            control.troubles.note("wrong_token", call.address)
            if sessions.guesses(call.address):
                return too_many_guesses()
            languages = call.request.headers.get("accept-language", "")
            return login_page(401, "login.wrong", languages)
        secret = sessions.begin()
        control.audit.add("login", session_name(secret), address=call.address)
        response = Response(status_code=303, headers={"location": "/"})
        response.set_cookie(
            COOKIE, secret, SESSION_S, httponly=True, samesite="strict", secure=secure
        )
        return response

    async def logout(call: Call) -> Response:
        sessions.end(call.request.cookies.get(COOKIE, ""))
        control.audit.add("logout", call.by, address=call.address)
        response = Response(status_code=303, headers={"location": "/"})
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=secure)
        return response

    begun = {303: Content("To the page.", media=()), 401: Content("Wrong.", media=(HTML,))}
    ended = {303: Content("To the form.", media=())}
    return [
        Endpoint("POST", LOGIN, "Begins a session.", login, begun, body=Login, form=True),
        Endpoint("POST", LOGOUT, "Ends it.", logout, ended, body=Nothing, form=True),
    ]
