"""Sources of frames without what nobody may read: the one function for all that leaves us."""

from __future__ import annotations

import re

_URL_SECRET = re.compile(
    r"((?:user|login|pass|pwd|token|secret|key|auth)\w*=)[^&/?#\s]*", re.IGNORECASE
)
_NAME = r"[\w-]*(?:user|login|pass|pw|token|secret|key|auth|cookie)[\w-]*\s*="
_PROPERTY = re.compile(
    rf"""(?<=[\s!,;(])(?:
        (["'])({_NAME})(?:\\.|(?!\1).)*\1?                                # 'name=value'
      | ({_NAME}\s*)(?:"(?:\\.|[^"\\])*"?|'[^']*'?|\\.|[^\s"'\\])*  # name="value"
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""Of an element of a GStreamer pipeline; it always follows the element's name."""


def redact(source: str) -> str:
    """Returns a source, or a text that quotes one, without user names, passwords and tokens."""
    source = _PROPERTY.sub(r"\2\3***", source)
    if "://" not in source:
        return source
    # The last "@": an unescaped one may be part of the password.
    return _URL_SECRET.sub(r"\1***", re.sub(r"://.*@", "://***@", source))
