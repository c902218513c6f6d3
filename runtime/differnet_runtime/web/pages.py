"""The pages and their files, sent in pieces: a slow client keeps only one piece in memory."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from functools import partial
from importlib.resources import files
from string import Template
from types import MappingProxyType
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Path, Query
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..model_file.contract import StrictModel
from .answers import Refused
from .connections import PIECE
from .routing import StationRoute, Threads, media, problems


class FileAnswer(StreamingResponse):
    """Response that sends an open file and closes it.

    Args:
        file: The file, at its beginning; it is sent whole even if it is deleted meanwhile.
        media: Media type of the file.
        reads: Threads that read the file, since a disk may be slow.
    """

    def __init__(self, file: BinaryIO, media: str, reads: Threads) -> None:
        length = os.fstat(file.fileno()).st_size
        self._file = file
        headers = {"content-length": str(length)}
        super().__init__(_pieces(file, length, reads), headers=headers, media_type=media)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the file."""
        with self._file:
            await super().__call__(scope, receive, send)


async def _pieces(file: BinaryIO, length: int, reads: Threads) -> AsyncIterator[bytes]:
    while length > 0 and (piece := await reads.run(partial(file.read, min(PIECE, length)))):
        length -= len(piece)
        yield piece


router = APIRouter(route_class=StationRoute)

HTML = "text/html; charset=utf-8"
_TYPES = {
    ".html": HTML,
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX, _TEACH = "index.html", "teach.html"
LANGUAGES: Mapping[str, str] = MappingProxyType({"en": "en", "de": "de", "zh": "zh-Hans"})
"""The languages of the pages: the HTML tag of each by its code."""
_LOGIN_WORD = re.compile(r'^ *"(login\.\w+)": *("(?:[^"\\]|\\.)*")', re.MULTILINE)
LoginText = Literal["login.token", "login.wrong"]

_STYLE = (
    ":root{--ground:#f3f5f7;--card:#fff;--edge:#dfe4ea;--text:#17202b;--accent:#0f6cbd}"
    "@media(prefers-color-scheme:dark){:root{--ground:#0e1318;--card:#161d25;--edge:#27313d;"
    "--text:#e6ebf1;--accent:#66b2f2}}"
    "body{font:16px/1.4 system-ui,sans-serif;color-scheme:light dark;display:grid;margin:0;"
    "place-items:center;min-height:90vh;background:var(--ground);color:var(--text)}"
    "form{display:grid;gap:12px;width:min(340px,90vw);padding:24px;box-sizing:border-box;"
    "background:var(--card);border:1px solid var(--edge);border-radius:12px}"
    "input,button{font:inherit;padding:10px 12px;border:1px solid var(--edge);border-radius:8px;"
    "background:var(--card);color:inherit}"
    "button{background:var(--accent);border-color:var(--accent);color:var(--card);"
    "font-weight:600;cursor:pointer}"
    ":focus-visible{outline:2px solid var(--accent);outline-offset:2px}"
)
_LOGIN = Template(f"""<!doctype html>
<html lang="$tag"><head><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head>
<body><form method="post" action="/login">
<label for="token">$label</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>$button</button>
</form></body></html>
""")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_LOGIN_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class PageQuery(StrictModel):
    """The view that the page starts with; only its script reads this."""

    view: Literal["engineer", "operator"] | SkipJsonSchema[None] = None


def login_page(status: int, label: LoginText, languages: str = "") -> Response:
    """Returns the login form, which reveals nothing about the station.

    Args:
        status: Status code of the response.
        label: Key of the text above the input: asks for a token, or says that it was wrong.
        languages: The `Accept-Language` header of the request.
    """
    code = language_of(languages)
    words = login_words()[code]
    text = _LOGIN.substitute(
        tag=LANGUAGES[code],
        title=words["login.title"],
        label=words[label],
        button=words["login.button"],
    )
    headers = {
        "content-type": HTML,
        "content-security-policy": _LOGIN_POLICY,
        "www-authenticate": "Bearer",
    }
    return Response(text, status, headers=headers)


def language_of(header: str) -> str:
    """Returns the first language of an `Accept-Language` header that the page knows, or `en`."""
    wanted = (one.strip()[:2].lower() for one in header.split(","))
    return next((code for code in wanted if code in LANGUAGES), "en")


@functools.cache
def login_words() -> Mapping[str, Mapping[str, str]]:
    """Returns the texts of the login form by language and key, from the page's files of texts."""
    return {
        code: {
            key: html.escape(json.loads(text))
            for key, text in _LOGIN_WORD.findall(
                (files(__package__) / "static" / f"words_{code}.js").read_text(encoding="utf-8")
            )
        }
        for code in LANGUAGES
    }


_HELD = {
    file.name: (file.read_bytes(), _TYPES["." + file.name.rpartition(".")[2]])
    for file in (files(__package__) / "static").iterdir()
}
_NAMES = sorted(name for name in _HELD if not name.endswith(".html"))


@router.get("/", response_class=Response, responses=media("The page.", HTML))
async def page(_query: Annotated[PageQuery, Query()]) -> Response:
    """The page of the station."""
    return _file(_INDEX)


@router.get("/teach", response_class=Response, responses=media("The page.", HTML))
async def teach() -> Response:
    """The page Teach."""
    return _file(_TEACH)


@router.get(
    "/static/{file}",
    response_class=Response,
    responses=media("The file.", *sorted({_HELD[name][1] for name in _NAMES})) | problems(404),
)
async def static(file: Annotated[str, Path(json_schema_extra={"enum": [*_NAMES]})]) -> Response:
    """Scripts and styles of the pages."""
    if file not in _NAMES:
        raise Refused(404, "there is no such file")
    return _file(file)


def _file(name: str) -> Response:
    data, kind = _HELD[name]
    return Response(data, headers={"content-type": kind})
