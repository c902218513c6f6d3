"""What the station tells its page of kept pictures."""

from differnet_runtime.daemon.control import _entry
from differnet_runtime.evidence import EvidenceItem


def item(verdict: str, head: str | None, *, heatmap: bool = True) -> EvidenceItem:
    return EvidenceItem("a" * 32, 1.0, "top", None, verdict, None, 3.0, 2.0, heatmap, 10, head)


def test_a_kept_picture_says_which_head_decided() -> None:
    fine = _entry(item("DEFECT", "fine"))
    assert (fine.decided_by, fine.note) == ("small details", None)
    whole = _entry(item("DEFECT", "whole"))
    assert whole.note is not None
    assert whole.note.startswith("The picture as a whole is unusual; the heatmap")
    without = _entry(item("DEFECT", "whole", heatmap=False))
    assert without.note == "The picture as a whole is unusual"


def test_a_picture_of_before_heads_says_nothing_of_them() -> None:
    for verdict, head in (("DEFECT", None), ("UNKNOWN", None), ("NO_DECISION", "whole")):
        entry = _entry(item(verdict, head))
        assert (entry.decided_by, entry.note) == (None, None)
