"""The page, its files, and the form that asks for the token."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from starlette.responses import Response

from .answers import Refused
from .endpoints import Call, Content, Endpoint

HTML = "text/html; charset=utf-8"
_TYPES = {
    ".html": HTML,
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX, _TEACH = "index.html", "teach.html"

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


def pages() -> list[Endpoint]:
    """Returns the routes of the page and its files, which are read once."""
    held = {
        file.name: (file.read_bytes(), _TYPES["." + file.name.rpartition(".")[2]])
        for file in (files(__package__) / "static").iterdir()
    }

    async def index(_call: Call) -> Response:
        return _file(*held[_INDEX])

    async def teach(_call: Call) -> Response:
        return _file(*held[_TEACH])

    async def static(call: Call) -> Response:
        name = call.request.path_params["file"]
        if name not in names:
            raise Refused(404, "there is no such file")
        return _file(*held[name])

    names = sorted(name for name in held if name not in (_INDEX, _TEACH))
    path = {"file": {"type": "string", "enum": names}}
    page = Content("The page.", media=(HTML,))
    file = Content("The file.", media=tuple(sorted({held[name][1] for name in names})))
    return [
        Endpoint("GET", "/", "The page for people.", index, {200: page}),
        Endpoint("GET", "/teach", "The page to teach a part on.", teach, {200: page}),
        Endpoint("GET", "/static/{file}", "What the page is made of.", static,
                 {200: file}, (404,), path),
    ]  # fmt: skip


def _file(data: bytes, media: str) -> Response:
    return Response(data, headers={"content-type": media})
