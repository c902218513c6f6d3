"""The forms for login and logout, on stations that need a token."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import APIRouter
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ..metadata import Part
from .answers import Refused, of_faults
from .guard import LOGIN, LOGOUT, Access, too_many_guesses
from .pages import HTML, login_page
from .routes import Nothing
from .routing import Call, CallDep, StationRoute, read_body, require_media
from .sessions import COOKIE, SESSION_S, Sessions, session_name

_FORM = "application/x-www-form-urlencoded"
P = TypeVar("P", bound=Part)
router = APIRouter(route_class=StationRoute, default_response_class=Response)


class Login(Part):
    """The token, from the form."""

    token: Annotated[str, Field(max_length=4096)]


def _form(model: type[Part]) -> dict[str, Any]:
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
    """Begins a session."""
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
