"""The application: all routers, with the guard before them, and the OpenAPI document."""

from __future__ import annotations

import threading
from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from ..metadata import Part
from . import label_routes, login_routes, pages, routes, shadow_routes, streams, teach_routes
from .answers import JSON, of_status
from .connections import Connections
from .control import Control
from .deadlines import Deadlines
from .guard import Access, Guard
from .routing import ALWAYS, OF_TOKENS, CallDep, StationRoute, media
from .threads import Threads, Workers

_READS, _CHANGES, _HEALTH = 16, 72, 4
"""Calls at once; 64 cameras can each wait for a part, and models still be switched."""

own = APIRouter(route_class=StationRoute)
ROUTERS = (
    pages.router,
    routes.router,
    label_routes.router,
    shadow_routes.router,
    teach_routes.router,
    streams.router,
    own,
)
"""The routers of every station; with a token, `login_routes` is added."""


class Allowed(Part):
    """What may be done over HTTP.

    Args:
        changes: Models may be switched and parts triggered.
        token: One is needed, and a session can be ended.
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
        registry: Of its metrics.
        access: Who may ask for what.
        connections: Of the server.
        stream_s: How long a stream goes on before its viewer must ask again.
        stopping: Ends streams.
    """
    app = _application(token=access.sessions is not None)
    state = app.state
    state.control, state.registry, state.access = control, registry, access
    state.workers = Workers(Threads(_READS), Threads(_CHANGES), Threads(_HEALTH))
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
    for router in (*ROUTERS, login_routes.router) if token else ROUTERS:
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
