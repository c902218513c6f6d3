"""Colours in the terminal: which text gets one, and on which streams.

A pipe, a file, `NO_COLOR` (https://no-color.org) and `TERM=dumb` get plain text. `FORCE_COLOR`
colours a pipe too, for `less -R`.
"""

from __future__ import annotations

import os
from typing import Literal, TextIO

Meaning = Literal["good", "bad", "look"]

_CODES: dict[Meaning, str] = {"good": "32", "bad": "1;31", "look": "33"}
"""Green, bold red and yellow: the terminal's own colours, which fit its background."""


def coloured(text: str, meaning: Meaning | None, stream: TextIO | None) -> str:
    """Returns a text in the colour of its meaning, where the stream shows colours.

    Args:
        text: Already made printable, so that text from outside brings no codes of its own.
        meaning: Chooses the colour; None leaves the text plain.
        stream: Where it will be written.
    """
    if not text or meaning is None or not shows_colour(stream):
        return text
    return f"\x1b[{_CODES[meaning]}m{text}\x1b[0m"


def shows_colour(stream: TextIO | None) -> bool:
    """Whether text on a stream gets colours."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and not stream.closed and stream.isatty()
