"""The page, its files, and the form that asks for the token."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from .answers import Refused
from .routing import StationRoute, media, problems

router = APIRouter(route_class=StationRoute)

HTML = "text/html; charset=utf-8"
_TYPES = {
    ".html": HTML,
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX = "index.html"

_STYLE = (
    "body{font:16px system-ui,sans-serif;color-scheme:light dark;display:grid;"
    "place-items:center;min-height:90vh;margin:0}"
    "form{display:grid;gap:12px;width:min(320px,90vw)}"
    "input,button{font:inherit;padding:10px 12px}"
)
_LOGIN = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Token needed</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head>
<body><form method="post" action="/login">
<label for="token">MESSAGE</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form></body></html>
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_LOGIN_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def login_page(status: int, message: str) -> Response:
    """Returns the form, which says nothing of the station."""
    headers = {
        "content-type": HTML,
        "content-security-policy": _LOGIN_POLICY,
        "www-authenticate": "Bearer",
    }
    return Response(_LOGIN.replace("MESSAGE", message), status, headers=headers)


_HELD = {
    file.name: (file.read_bytes(), _TYPES["." + file.name.rpartition(".")[2]])
    for file in (files(__package__) / "static").iterdir()
}
_NAMES = sorted(name for name in _HELD if name != _INDEX)


@router.get("/", response_class=Response, responses=media("The page.", HTML))
async def page() -> Response:
    """The page for people."""
    return _file(_INDEX)


@router.get(
    "/static/{file}",
    response_class=Response,
    responses=media("The file.", *sorted({_HELD[name][1] for name in _NAMES})) | problems(404),
)
async def static(file: Annotated[str, Path(json_schema_extra={"enum": [*_NAMES]})]) -> Response:
    """What the page is made of."""
    if file not in _NAMES:
        raise Refused(404, "there is no such file")
    return _file(file)


def _file(name: str) -> Response:
    data, kind = _HELD[name]
    return Response(data, headers={"content-type": kind})
