"""Sources of frames without what nobody may read: the one module for all that leaves us."""

from __future__ import annotations

import re

from ..config.grammar import GST, check_source

_KEY = r"(?:user|login|pass|pwd|token|secret|key|auth)\w*="
_QUERY = re.compile(rf"({_KEY})\S*?(?=[\s]|[&?]\w+=|$)", re.IGNORECASE)
_QUERY_TO_ITS_END = re.compile(rf"({_KEY}).*?(?=[&?]\w+=|$)", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ALL, _LOGIN = re.compile(r"://.*", re.DOTALL), re.compile(r"://.*@", re.DOTALL)
"""Up to the last "@": one that is not written as a code may be part of the password."""
_NO_SCHEME = re.compile(r"^[^/@\s]+:.*@", re.DOTALL)
"""A login whose URL lacks its scheme."""
_NAME = r"[\w-]*(?:user|login|pass|pw|token|secret|key|auth|cookie)[\w-]*\s*="
_PIECES = r"""(?:"(?:\\.|[^"\\])*"?|'[^']*'?|\\.|[^\s"'\\])*"""
_PROPERTY = re.compile(
    rf"""(?<=[\s!,;(])(?:
        (["'])({_NAME})(?:\\.|(?!\1).)*\1?{_PIECES}   # 'name=value'
      | ({_NAME}\s*){_PIECES}                         # name="value"
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""Of an element of a GStreamer pipeline; it always follows the element's name."""


def redact(source: str) -> str:
    """Returns a source, and nothing else, without user names, passwords and tokens."""
    if _URL.match(source):
        try:
            check_source(source)
        except ValueError:  # what of it is a password can't be told
            return _ALL.sub("://***", source)
        return _without_login(source, _QUERY_TO_ITS_END)
    return redact_text(source if source.startswith(GST) else _NO_SCHEME.sub("***@", source))


def redact_text(text: str) -> str:
    """Returns a text that may quote a source without user names, passwords and tokens."""
    lines = _PROPERTY.sub(r"\2\3***", text).split("\n")
    return "\n".join(_without_login(line, _QUERY) if "://" in line else line for line in lines)


def _without_login(text: str, query: re.Pattern[str]) -> str:
    shown = query.sub(r"\1***", text)
    if shown.count("@") != text.count("@"):
        # Of a login or of a query: which of the two is not told by how it is written.
        return _ALL.sub("://***", text)
    return _LOGIN.sub("://***@", shown)
