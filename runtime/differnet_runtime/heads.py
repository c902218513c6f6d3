"""Says in words which head of a model decided; events, page and tables all use these words."""

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
    """Says in words what a head judges; None if no head is given."""
    return None if head is None else WORDS.get(head, head)


def decided_by(head: str | None, verdict: str) -> str | None:
    """Says in words which head decided; None where nothing was decided or a file has no heads."""
    return in_words(head) if verdict in ("GOOD", "DEFECT") else None


def note(head: str | None, verdict: str, *, heatmap: bool) -> str | None:
    """Explains why the heatmap of a defective part may show little.

    Args:
        head: Name of the head with the highest score, or None.
        verdict: GOOD, DEFECT or NO_DECISION.
        heatmap: Whether there is a heatmap.

    Returns:
        A sentence if the picture as a whole made the part a defect, else None.
    """
    if verdict != "DEFECT" or head != "whole":
        return None
    return _WITH_HEATMAP if heatmap else _WHOLE
