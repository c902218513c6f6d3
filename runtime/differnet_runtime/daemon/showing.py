"""What the page shows of kept pictures, parts, and the events that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..evidence import EvidenceItem
from ..heads import decided_by, note
from ..labels import Labelled
from ..outbox import Tally
from ..web.control import EvidenceEntry
from ..web.views import EvidenceView, OutboxView, PartsView, SinkView
from .health import State

if TYPE_CHECKING:
    from .station import Station

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


def sink_views(station: Station) -> list[SinkView]:
    """Returns the receivers of events."""
    pending = station.results.outbox.status.pending
    return [
        SinkView(
            name=status.sink,
            state="down" if status.problem else "limited" if status.caution else "ok",
            reason=status.problem or status.caution,
            pending=pending.get(status.sink, 0),
            delivered=status.delivered,
            undeliverable=status.undeliverable,
        )
        for status in (delivery.status for delivery in station.results.deliveries)
    ]


def outbox_view(station: Station, state: State) -> OutboxView:
    """Returns the events that wait for delivery."""
    status = station.results.outbox.status
    return OutboxView(
        state=state.state,
        reason=state.reason,
        pending=max(status.pending.values(), default=0) + status.waiting_in_memory,
        oldest_s=status.oldest_age_s,
        dropped=status.dropped,
        bytes=status.bytes,
    )


def evidence_view(station: Station, state: State) -> EvidenceView:
    """Returns what the kept pictures take."""
    status, config = station.evidence.status, station.config.evidence
    return EvidenceView(
        state=state.state,
        reason=state.reason,
        pictures=status.count,
        bytes=status.bytes,
        max_bytes=config.max_bytes,
        free_bytes=status.free_bytes,
        skipped=status.dropped,
    )
