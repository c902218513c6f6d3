"""What a mistyped name may have meant: the one rule for commands, options, values and keys."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 60
"""Longer names are cut before they are compared: nobody mistypes them."""
_ALIKE = 0.6


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is most like `name`; None where none is."""
    import difflib  # 3 ms, and only a mistake needs it

    by_lower = {one.lower(): one for one in known}
    wanted = name[:_LONGEST].lower()
    close = difflib.get_close_matches(wanted, by_lower, n=1, cutoff=_ALIKE)
    return by_lower[close[0]] if close else None


def instead(name: str, known: Iterable[str]) -> str:
    """Returns what to give in place of an unknown name, as the end of a message.

    Args:
        name: What was given.
        known: What there is, in the order in which it is listed.

    Example:
        >>> instead("pper", ["edge", "paper"])
        'did you mean paper?'
        >>> instead("x", ["edge", "paper"])
        'choose from edge, paper'
    """
    listed = list(known)
    close = nearest(name, listed)
    return f"did you mean {close}?" if close else f"choose from {', '.join(listed)}"
