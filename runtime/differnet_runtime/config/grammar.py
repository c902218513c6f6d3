"""The grammar of frame sources, for stations and commands, and their redaction.

A device is `0` or `/dev/...`; a stream is a URL; a pipeline is `gst:...`; everything else is the
path of a folder, a picture or a video. Every source in a message, an event or a page goes through
`redact` or `redact_text`, which hide user names, passwords and tokens.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from ..files import SUFFIXES

CameraKind = Literal["auto", "device", "stream", "video", "folder", "gstreamer"]

ON_DISK: tuple[CameraKind, ...] = ("video", "folder")
"""Kinds whose source is a path, and whose frames do not arrive by themselves."""
PREFIXES: dict[CameraKind, str] = {"gstreamer": "gst:"}
"""How a source of these kinds starts; what follows is what the camera's class is given."""
ACCEPTED = (
    "a device (0 or /dev/video0), the URL of a stream (rtsp:// or http://), a GStreamer pipeline "
    "(gst:...), a folder of pictures, a picture or a video"
)
"""For messages and for the help of options."""

_WITH_LOGIN = frozenset({"rtsp", "rtsps", "http", "https", "rtmp", "rtmps"})
_SCHEMES = _WITH_LOGIN | {"rtp", "udp", "tcp", "srt"}
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(?:[\w.-]+|\[[\w:.%]+\])(?::\d{1,5})?")
_ENDS = re.compile("([/?#])")
"""The characters that end user name, password, host and port."""
_MEMORY = "/dev/shm/"  # noqa: S108 - a file system, the only one below /dev that holds pictures
_NO_CODE = re.compile(r"%(?![0-9a-fA-F]{2})")
_LEGAL = "!$&'()*+,;=:%"
"""Characters allowed in user name and password besides letters, digits and `-._~` (RFC 3986)."""


def is_path(source: str) -> bool:
    """Says whether a source is written as a path."""
    return not (_has_prefix(source) or source.isdecimal() or _URL.match(source))


def _has_prefix(source: str) -> bool:
    return source.startswith(tuple(PREFIXES.values()))


def kind_of(source: str) -> CameraKind:
    """Returns the kind of a source; of a path that does not exist, what its name suggests."""
    for kind, prefix in PREFIXES.items():
        if source.startswith(prefix):
            return kind
    if _URL.match(source):
        return "stream"
    if source.isdecimal():
        return "device"
    path = Path(source)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:  # a name too long, or a folder that may not be searched
        is_folder = is_file = False
    if source.startswith("/dev/") and not (source.startswith(_MEMORY) or is_folder):
        return "device"
    if is_folder or path.suffix.lower() in SUFFIXES:
        return "folder"
    # It may not be there yet: a share that is mounted later.
    return "video" if is_file or path.suffix else "folder"


def check_source(source: str) -> None:
    """Refuses a source that can't be valid; what a path names need not exist.

    Raises:
        ValueError: A pipeline lacks its `gst:`, or a URL has an unsupported scheme or an ambiguous
            host.
    """
    if is_path(source) and " ! " in source:
        raise ValueError(f"a GStreamer pipeline is written with {PREFIXES['gstreamer']} before it")
    url = _URL.match(source)
    if url is not None and url[1].lower() not in _SCHEMES:
        raise ValueError(f"{url[1]}:// is not read, but {', '.join(sorted(_SCHEMES))} are")
    with_coded_login(source)


def with_coded_login(url: str) -> str:
    """Returns a URL whose user name and password are percent-encoded.

    Raw `#`, `@`, `:`, `?`, `%` and spaces are understood. So is `/`, unless the text before it
    could be a host and its port.

    Raises:
        ValueError: It is ambiguous where the host starts.
    """
    found = _URL.match(url)
    if found is None or found[1].lower() not in _WITH_LOGIN:
        return url
    login, rest = _split(found[2])
    if login is None:
        return url
    return f"{found[1]}://{quote(_NO_CODE.sub('%25', login), safe=_LEGAL)}@{rest}"


def _split(text: str) -> tuple[str | None, str]:
    """Splits the text after `://` into the login (None if there is none) and the rest."""
    authority, ends, *_ = [*_ENDS.split(text, maxsplit=1), ""]
    login, at, host = authority.rpartition("@")
    if _HOST.fullmatch(host) and not (ends == "#" and "@" in text[len(authority) :]):
        return (login if at else None), text[len(login) + len(at) :]
    # A camera's URL has no fragment, so that a "#" belongs to the password.
    first = text.rfind("#", 0, text.rfind("@") + 1)
    for found in re.finditer("@", text):
        rest = text[found.end() :]
        if found.start() > first and _HOST.fullmatch(_ENDS.split(rest, maxsplit=1)[0]):
            return text[: found.start()], rest
    raise ValueError(
        "where the host of the URL starts can't be told. In user name and password write every "
        "character but letters, digits and - . _ ~ as its percent code: # as %23, % as %25, / as "
        "%2F, : as %3A, ? as %3F, @ as %40, a space as %20"
    )


_KEY = r"(?:user|login|pass|pwd|token|secret|key|auth)\w*="
_QUERY = re.compile(rf"({_KEY})\S*?(?=[\s]|[&?]\w+=|$)", re.IGNORECASE)
_QUERY_TO_ITS_END = re.compile(rf"({_KEY}).*?(?=[&?]\w+=|$)", re.IGNORECASE | re.DOTALL)
_URL_IN_TEXT = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ALL, _LOGIN = re.compile(r"://.*", re.DOTALL), re.compile(r"://.*@", re.DOTALL)
"""Up to the last "@": an "@" that is not encoded may be part of the password."""
_NO_SCHEME = re.compile(r"^[^/@\s]+:.*@", re.DOTALL)
"""A login in a URL without its scheme."""
_NAME = r"[\w-]*(?:user|login|pass|pw|token|secret|key|auth|cookie)[\w-]*\s*="
_PIECES = r"""(?:"(?:\\.|[^"\\])*"?|'[^']*'?|\\.|[^\s"'\\])*"""
_PROPERTY = re.compile(
    rf"""(?<=[\s!,;(])(?:
        (["'])({_NAME})(?:\\.|(?!\1).)*\1?{_PIECES}   # 'name=value'
      | ({_NAME}\s*){_PIECES}                         # name="value"
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""A property of an element of a GStreamer pipeline; it always follows the element's name."""


def redact(source: str) -> str:
    """Returns a source without user names, passwords and tokens."""
    if _URL_IN_TEXT.match(source):
        try:
            check_source(source)
        except ValueError:  # it is ambiguous what belongs to the password
            return _ALL.sub("://***", source)
        return _without_login(source, _QUERY_TO_ITS_END)
    return redact_text(source if _has_prefix(source) else _NO_SCHEME.sub("***@", source))


def redact_text(text: str) -> str:
    """Returns a text that may quote sources, without user names, passwords and tokens."""
    lines = _PROPERTY.sub(r"\2\3***", text).split("\n")
    return "\n".join(_without_login(line, _QUERY) if "://" in line else line for line in lines)


def _without_login(text: str, query: re.Pattern[str]) -> str:
    shown = query.sub(r"\1***", text)
    if shown.count("@") != text.count("@"):
        # The query held an "@", so it is ambiguous whether it belongs to the login.
        return _ALL.sub("://***", text)
    return _LOGIN.sub("://***@", shown)
