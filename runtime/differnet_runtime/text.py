r"""Text for people: escapes what is not printable, colours it, and suggests mistyped names.

Names of files, models, cameras and parts, and messages of devices, libraries and other machines,
may hold control characters, which command a terminal, and directional marks, which turn a line
around. Wherever such a text is shown, these are written as `\x1b` or `\u202e`.

Colours appear in a terminal only: a pipe, a file, `NO_COLOR` (https://no-color.org) and `TERM=dumb`
get plain text. `FORCE_COLOR` colours a pipe too, for `less -R`.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Container, Iterable, Sequence
from itertools import chain, repeat
from typing import Literal, TextIO

UNPRINTABLE = (
    r"\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u1680\u180e"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u2064\u2066-\u206f\u3000\ue000-\uf8ff\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
"""What is refused in a text to be shown: control and format characters, spaces but the usual one,
and private ones, as a character class is written in JSON Schema, Python and Rust alike. Surrogates
are no text at all. Characters of a later Unicode than Python's may be written, and show escaped.
"""
_CODE = re.compile(r"\\(?=[xuU])")


def printable(text: str) -> str:
    r"""Returns a text on one line: a line break is written as `\x0a`."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_lines(text: str) -> str:
    """Returns a text whose line breaks are its own, each line printable."""
    return "\n".join(printable(line) for line in text.split("\n"))


def file_name(name: str) -> str:
    r"""Returns a file's name so that different names stay different.

    Bytes that are not UTF-8 become `\xe4`, and the backslash of a name that has a `\x`, `\u` or
    `\U` in it becomes `\x5c`.
    """
    return printable(_CODE.sub(r"\\x5c", os.fsencode(name).decode("utf-8", "surrogateescape")))


def _escaped(one: str) -> str:
    if one.isprintable():
        return one
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


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


_LONGEST = 60
"""Number of characters of a name that are compared."""
_ALIKE = 0.6


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is most like `name`; None if none is similar."""
    import difflib  # 3 ms, and only a mistake needs it

    by_lower = {one.lower(): one for one in known}
    wanted = name[:_LONGEST].lower()
    close = difflib.get_close_matches(wanted, by_lower, n=1, cutoff=_ALIKE)
    return by_lower[close[0]] if close else None


def instead(name: str, known: Iterable[str]) -> str:
    """Returns the end of a message: which name to use instead of an unknown one.

    Args:
        name: Name that is not among the valid ones.
        known: All valid names, in the order in which the message lists them.

    Example:
        >>> instead("pper", ["edge", "paper"])
        'did you mean paper?'
        >>> instead("x", ["edge", "paper"])
        'choose from edge, paper'
    """
    listed = list(known)
    close = nearest(name, listed)
    return f"did you mean {close}?" if close else f"choose from {', '.join(listed)}"


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def table(
    rows: Iterable[Sequence[str]],
    *,
    least: Iterable[int] = (),
    right: Container[int] = (),
    wrap: int | None = None,
) -> str:
    """Returns rows as lines of aligned columns, two spaces apart; a cell may be coloured.

    Args:
        rows: Cells, in each row as many.
        least: Minimum widths of the first columns, in characters.
        right: Indices of the columns aligned to the right.
        wrap: Length of a line in characters, at which the last column is wrapped; None never wraps.

    Example:
        >>> print(table([("precision", "fp32"), ("name", "paper")]))
        precision  fp32
        name       paper
    """
    listed = list(rows)
    widths = [
        max(floor, *map(_width, cells))
        for cells, floor in zip(zip(*listed, strict=True), chain(least, repeat(0)), strict=False)
    ]
    return "\n".join(_line(row, widths, right, wrap) for row in listed)


def _line(cells: Sequence[str], widths: list[int], right: Container[int], wrap: int | None) -> str:
    gaps = [" " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    *first, last = (
        gap + cell if k in right else cell + gap
        for k, (cell, gap) in enumerate(zip(cells, gaps, strict=True))
    )
    start = "".join(f"{cell}  " for cell in first)
    indent = " " * _width(start)
    if wrap is not None:
        filled = textwrap.TextWrapper(
            max(20, wrap - len(indent)), break_long_words=False, break_on_hyphens=False
        )
        last = f"\n{indent}".join(filled.wrap(cells[-1]))
    return (start + last).rstrip()


def _width(text: str) -> int:
    return len(_COLOUR.sub("", text))
