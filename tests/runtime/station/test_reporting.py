"""Which picture a verdict names, and that it is kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from differnet_runtime.config import CameraConfig, DecisionConfig, EventsConfig, EvidenceConfig
from differnet_runtime.events import FrameRef, InspectionEvent
from differnet_runtime.evidence.store import EvidenceStore
from differnet_runtime.outbox.outbox import Outbox
from differnet_runtime.records import Frame, Verdict
from differnet_runtime.station.judging import JudgedFrame
from differnet_runtime.station.metrics import Metrics
from differnet_runtime.station.reporting import CameraRecord, Reporter
from differnet_runtime.web.live import RecentEvents
from differnet_runtime.web.views import Overview
from tests.runtime.waiting import wait_for


def judged(score: float, verdict: str = "DEFECT") -> JudgedFrame:
    """Returns a verdict of a free-running camera."""
    image = np.full((16, 16, 3), int(score), np.uint8)
    ref = FrameRef(name="f", index=0, captured_at_s=1.0, age_ms=1.0, width=16, height=16)
    event = InspectionEvent.model_validate(
        {
            "station": "line",
            "camera": "top",
            "verdict": verdict,
            "reject": verdict != "GOOD",
            "score": score,
            "frame": ref,
        }
    )
    return JudgedFrame(event, Frame(image, "f", 0, time.monotonic_ns(), 1.0))


@pytest.mark.parametrize("labelled", [True, False])
def test_a_worse_frame_of_a_part_never_names_a_picture_that_is_not_kept(
    tmp_path: Path, labelled: bool
) -> None:
    evidence = EvidenceStore(tmp_path / "evidence", EvidenceConfig(min_free_bytes=0))
    outbox = Outbox(tmp_path / "outbox.sqlite", EventsConfig())
    metrics = Metrics(lambda: cast("Overview", None))
    reporter = Reporter(outbox, evidence, RecentEvents(), metrics)
    reporter.open("top", CameraConfig(source="0", same_part_s=3600.0))
    evidence.start()
    try:
        first = reporter.report(judged(2.0)).evidence
        assert first is not None
        wait_for(lambda: evidence.status.count == 1)
        if labelled:
            evidence.notes.mark(first, labelled=True)
        worse = reporter.report(judged(5.0)).evidence
        kept = first if labelled else worse
        assert (worse is None) is labelled
        wait_for(lambda: [(one.id, one.frames) for one in evidence.list(limit=9)] == [(kept, 2)])
    finally:
        evidence.stop()
        outbox.stop()


def test_pictures_are_kept_as_configured(tmp_path: Path) -> None:
    def kept(**config: object) -> list[bool]:
        store = EvidenceStore(tmp_path, EvidenceConfig.model_validate(config))
        outbox = Outbox(tmp_path / "outbox.sqlite", EventsConfig())
        metrics = Metrics(lambda: cast("Overview", None))
        reporter = Reporter(outbox, store, RecentEvents(), metrics)
        verdicts = [Verdict.DEFECT, Verdict.NO_DECISION, *[Verdict.GOOD] * 4]
        return [
            reporter.report(judged(1.0, verdict.value)).evidence is not None for verdict in verdicts
        ]

    assert kept() == [True, True, False, False, False, False]
    assert kept(good_every=2) == [True, True, False, True, False, True]
    assert kept(keep="all") == [True] * 6
    assert kept(keep="none", good_every=1) == [False] * 6


def test_a_reopened_camera_repeats_no_alarm_and_splits_no_part() -> None:
    decision = DecisionConfig(k=2, n=2, cooldown_s=3600.0)
    config = CameraConfig(source="0", same_part_s=3600.0, no_part_after_s=60.0)
    first = CameraRecord("top", config)
    events = [first.parts.place(judged(2.0)).event for _ in range(2)]
    alarms = [first.alarms.see(event, decision) for event in events]
    assert [one is not None for one in alarms] == [False, True]
    assert first.keeps_undecided("dark")

    closed = CameraRecord("top", before=first)
    again = CameraRecord("top", config, closed)
    event = again.parts.place(judged(2.0)).event
    assert event.first_event == events[0].first_event
    assert [again.alarms.see(event, decision) for _ in range(3)] == [None] * 3
    assert not again.keeps_undecided("dark")
    assert again.verdicts == {}
