"""The sentences that the station says to people: each has a code and named values.

`sentence` writes one in English. As plain text it goes through errors, logs, other processes,
databases and files. Where it is shown, `said` recognises it and returns its code and values, by
which the page says it in its own language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from string import Formatter
from types import MappingProxyType
from typing import NamedTuple

from .catalogue import INSPECTION, STATION

SENTENCES: Mapping[str, str] = MappingProxyType({**INSPECTION, **STATION})
"""By code, in the form that `str.format` takes."""
ALSO, BECAUSE, AND = "also", "because", "and"
"""The codes of two sentences in one text."""

_BETWEEN = {"; ": ALSO, ": ": BECAUSE, ", ": AND}
_LONGEST, _MOST_JOINED = 4000, 16


@dataclass(frozen=True)
class Said:
    """A sentence, taken apart.

    Args:
        text: In English.
        code: Of `SENTENCES`, or `ALSO`, `BECAUSE` or `AND` with the values `first` and `second`.
        values: By name; a value may be a sentence itself.
    """

    text: str
    code: str
    values: dict[str, str | Said]


class _Form(NamedTuple):
    longest: str
    pieces: tuple[str, ...]
    code: str
    pattern: re.Pattern[str]


def sentence(code: str, **values: object) -> str:
    """Returns a sentence in English.

    Args:
        code: Of `SENTENCES`.
        values: Those that its form names.
    """
    return SENTENCES[code].format(**values)


def names_of(code: str) -> set[str]:
    """Returns the names of a sentence's values."""
    return {name for _, name, _, _ in Formatter().parse(SENTENCES[code]) if name is not None}


def said(text: str) -> Said | None:
    """Returns the code and the values of an English sentence; None if it is not known.

    Of a text such as "SENTENCE: cause" or "SENTENCE; more" one known part is enough.
    """
    found = _found(text)
    return found.said if found is not None else None


class _Recognised(NamedTuple):
    begin: int
    """Where its first words are: of a sentence within a sentence, the outer one begins first."""
    unknown: int
    """Characters that belong to values."""
    said: Said


@lru_cache(maxsize=2048)
def _found(text: str) -> _Recognised | None:
    if len(text) > _LONGEST:
        return None
    whole = min(_whole(text), key=_rank, default=None)
    if whole is not None and whole.begin == 0:
        return whole
    joined = _joined(text) if sum(map(text.count, _BETWEEN)) <= _MOST_JOINED else ()
    return min((*filter(None, (whole,)), *joined), key=_rank, default=None)


def _rank(found: _Recognised) -> tuple[int, int]:
    return found.begin, found.unknown


def _whole(text: str) -> Iterator[_Recognised]:
    for longest, pieces, code, pattern in _forms():
        if longest not in text or any(piece not in text for piece in pieces):
            continue
        if (match := pattern.fullmatch(text)) is not None:
            begin = 0 if pieces[0] else match.end(1)
            values = {name: said(of) or of for name, of in match.groupdict().items()}
            known = sum(map(len, pieces))
            yield _Recognised(begin, len(text) - known, Said(text, code, values))


def _joined(text: str) -> Iterator[_Recognised]:
    for between, code in _BETWEEN.items():
        for first, there, second in (text.partition(between), text.rpartition(between)):
            one, other = (_found(first), _found(second)) if there else (None, None)
            values = {
                "first": one.said if one else first,
                "second": other.said if other else second,
            }
            begin = one.begin if one else len(first)
            unknown = (one.unknown if one else len(first)) + len(between)
            unknown += other.unknown if other else len(second)
            enough = {ALSO: one, BECAUSE: one or other, AND: one and other}
            if enough[code] is not None:
                yield _Recognised(begin, unknown, Said(text, code, values))


def _form(code: str) -> _Form:
    pieces, pattern, names = [], "", set[str]()
    for literal, name, _, conversion in Formatter().parse(SENTENCES[code]):
        pieces.append(literal)
        pattern += re.escape(literal)
        if name is not None:
            quote = "['\"]" if conversion == "r" else ""
            pattern += quote + (f"(?P={name})" if name in names else f"(?P<{name}>.*?)") + quote
            names.add(name)
    longest = max(pieces, key=len)
    return _Form(longest, tuple(pieces), code, re.compile(pattern, re.DOTALL))


@cache
def _forms() -> tuple[_Form, ...]:
    """Returns how each sentence is recognised; most processes only write them."""
    return tuple(map(_form, SENTENCES))
