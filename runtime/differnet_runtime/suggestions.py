"""Suggestions for mistyped names: of commands, options, values and keys."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 60
"""Longer names are cut before they are compared: nobody mistypes them."""
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
        name: The unknown name.
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
