"""Writes tables of Markdown, and the figures in their cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table; cells that are not texts are written as `str` does it.

    Example:
        >>> print(table(["way", "time"], [["fast", "1 ms"]]))
        | way | time |
        |---|---|
        | fast | 1 ms |
    """
    lines = [_line(head), "|" + "---|" * len(head), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def milliseconds(figure: Mapping[str, float], digits: int = 1) -> str:
    """Returns a median and, in brackets, the 5 % and 95 % quantiles, in milliseconds."""
    digits = 0 if figure["median"] >= 100 else digits
    low, high = (f"{figure[key]:.{digits}f}" for key in ("p05", "p95"))
    return f"{figure['median']:.{digits}f} ms ({low} to {high})"


def median_of(figure: Mapping[str, float], unit: str, digits: int) -> str:
    """Returns a median and, in brackets, the least and the greatest value."""
    least, greatest = (f"{figure[key]:.{digits}f}" for key in ("min", "max"))
    return f"{figure['median']:.{digits}f} {unit} ({least} to {greatest})"


def mean_of(figure: Mapping[str, float]) -> str:
    """Returns a mean and the standard deviation over seeds."""
    return f"{figure['mean']:.4f} ± {figure['standard_deviation']:.4f}"
