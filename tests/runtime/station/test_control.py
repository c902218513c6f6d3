"""What the station tells its page of kept pictures."""

from differnet_runtime.evidence.index import EvidenceItem
from differnet_runtime.web.control import entry_view


def item(verdict: str, head: str | None, *, heatmap: bool = True) -> EvidenceItem:
    return EvidenceItem("a" * 32, 1.0, "top", None, verdict, None, 3.0, 2.0, heatmap, 10, head)


def test_a_kept_picture_says_which_head_decided() -> None:
    fine = entry_view(item("DEFECT", "fine"), None)
    assert (fine.decided_by, fine.note) == ("small details", None)
    whole = entry_view(item("DEFECT", "whole"), None)
    assert whole.note is not None
    assert whole.note.startswith("The picture as a whole is unusual; the heatmap")
    without = entry_view(item("DEFECT", "whole", heatmap=False), None)
    assert without.note == "The picture as a whole is unusual"


def test_a_picture_of_before_heads_says_nothing_of_them() -> None:
    for verdict, head in (("DEFECT", None), ("UNKNOWN", None), ("NO_DECISION", "whole")):
        entry = entry_view(item(verdict, head), None)
        assert (entry.decided_by, entry.note) == (None, None)
