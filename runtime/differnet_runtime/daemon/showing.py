"""What the page shows of a kept picture and of a camera's parts."""

from __future__ import annotations

from ..evidence import EvidenceItem
from ..heads import decided_by, note
from ..labels import Labelled
from ..outbox import Tally
from ..web.control import EvidenceEntry
from ..web.views import PartsView

_VERDICTS = ("GOOD", "DEFECT", "NO_DECISION")


def entry_view(item: EvidenceItem, label: Labelled | None) -> EvidenceEntry:
    """Returns a kept picture, with what a person said of it."""
    return EvidenceEntry(
        id=item.id,
        at_s=item.at_s,
        camera=item.camera,
        part=item.part,
        verdict=item.verdict if item.verdict in _VERDICTS else "NO_DECISION",
        reason=item.code,
        score=item.score,
        threshold=item.threshold,
        head=item.head,
        decided_by=decided_by(item.head, item.verdict),
        note=note(item.head, item.verdict, heatmap=item.heatmap),
        kinds=["image", "heatmap"] if item.heatmap else ["image"],
        bytes=item.bytes,
        frames=item.frames,
        label=label.label if label else None,
        defect=label.kind if label else None,
        comment=label.comment if label else None,
    )


def parts_view(tally: Tally) -> PartsView:
    """Returns the parts of a camera, with their yield."""
    parts = tally.good + tally.defect + tally.undecided
    return PartsView(
        since_s=tally.since_s,
        good=tally.good,
        defect=tally.defect,
        undecided=tally.undecided,
        yield_percent=round(100.0 * tally.good / parts, 2) if parts else None,
    )
