"""Which head of a model decided, in words: the one place that events, page and tables take them."""

from __future__ import annotations

WORDS = {
    "whole": "the picture as a whole",
    "coarse": "larger areas",
    "fine": "small details",
}
"""What each head judges, by its name in `metadata.heads`."""

_WHOLE = "The picture as a whole is unusual"
_WITH_HEATMAP = f"{_WHOLE}; the heatmap shows where its areas differ most"


def in_words(head: str | None) -> str | None:
    """Says what a head judges; None where there is none."""
    return None if head is None else WORDS.get(head, head)


def decided_by(head: str | None, verdict: str) -> str | None:
    """Says in words which head decided; None where nothing was decided or a file has no heads."""
    return in_words(head) if verdict in ("GOOD", "DEFECT") else None


def note(head: str | None, verdict: str, *, heatmap: bool) -> str | None:
    """Explains a heatmap that may be calm although the part is a defect.

    Args:
        head: Name of the head with the greatest score, or None.
        verdict: GOOD, DEFECT or NO_DECISION.
        heatmap: Whether there is one.

    Returns:
        A sentence where the picture as a whole made the part a defect, else None.
    """
    if verdict != "DEFECT" or head != "whole":
        return None
    return _WITH_HEATMAP if heatmap else _WHOLE
