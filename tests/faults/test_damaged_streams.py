"""Damage over real RTSP connections, and every kind of stream at once without any."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import pytest

from benchmarks import machine
from benchmarks.stream_kinds import Coded, Seen
from differnet_runtime.capture.process import CaptureProcess
from differnet_runtime.errors import ImageReadError
from tests.fakes.clips import Clip
from tests.fakes.http_camera import (
    MULTIPART,
    TRANSPORT_STREAM,
    http_camera,
    live_transport_stream,
    part,
)
from tests.fakes.lossy_network import lossy_network
from tests.fakes.rtsp import rtsp_camera
from tests.faults.capturing import capture, next_frame

FRAMES, SEEN = 120, 30
MINUTES = float(os.environ.get("DIFFERNET_SOAK_MINUTES", "60"))
KINDS = {
    "h264": ("cut", "hole", "wrong data", "lost slice", "resolution changes"),
    "h265": ("lost slice", "resolution changes"),
}


def test_no_damaged_frame_is_handed_out_over_rtsp(tmp_path: Path) -> None:
    coded = {codec: Coded(codec, tmp_path, FRAMES) for codec in KINDS}

    def over_tcp(codec: str, kind: str) -> tuple[Seen, dict[str, Any]]:
        return coded[codec].rtsp(kind, coded[codec].made[kind])

    with ThreadPoolExecutor(16) as pool:
        runs = {
            (codec, kind): pool.submit(over_tcp, codec, kind)
            for codec, kinds in KINDS.items()
            for kind in kinds
        }
        runs |= {(codec, "lost packets"): pool.submit(coded[codec].udp, 0.02) for codec in KINDS}
        results = {name: run.result() for name, run in runs.items()}
    for name, (seen, result) in results.items():
        assert seen.wrong == [], name
        assert result["damaged_frames"] > 0 or "changes" in name[1], name
        # On a busy machine the system may lose packets of its own over UDP.
        assert result["whole_judged_share"] >= (0.5 if "packets" in name[1] else 0.95), name


def test_a_camera_is_read_over_udp_where_that_is_asked_for() -> None:
    with rtsp_camera(Clip()) as camera, lossy_network(camera.url, 0.0, 1) as network:
        with capture(network.url, transport="udp") as process:
            next_frame(process)
        assert network.packets > 0


class Watched:
    """Counts what a stream without damage gives.

    Args:
        process: Its capture process.
    """

    def __init__(self, process: CaptureProcess) -> None:
        self.process, self.counts = process, Counter[str]()

    def take(self) -> None:
        """Takes what is there; until its first key frame a stream that was joined gives nothing."""
        while self.process.wait(0):
            try:
                frame = self.process.take()
            except ImageReadError as error:
                self.counts[str(error)] += 1
                continue
            if frame is not None and (frame.damage is None or self.counts["whole"]):
                self.counts[frame.damage or "whole"] += 1


@pytest.mark.parametrize(
    ("minutes", "report"),
    [
        pytest.param(0.1, None, id="short"),
        pytest.param(MINUTES, "soak_clean_streams", id="an-hour", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(MINUTES * 60 + 300)
def test_streams_without_damage_raise_no_alarm(minutes: float, report: str | None) -> None:
    h264, h265 = Clip(fps=15, slices=4), Clip(fps=15, slices=4, codec="h265")
    both_sides = Clip(fps=15, bframes=2)
    parts = [part(cv2.imencode(".jpg", h264.picture(number))[1].tobytes()) for number in range(300)]
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        sources: dict[str, tuple[str, dict[str, Any]]] = {
            "RTSP/TCP, h264": (enter(rtsp_camera(h264)).url, {}),
            "RTSP/TCP, h265": (enter(rtsp_camera(h265)).url, {}),
            "RTSP/UDP, h264": (enter(rtsp_camera(h264)).url, {"transport": "udp"}),
            "RTSP/TCP, h264 with B frames": (enter(rtsp_camera(both_sides)).url, {}),
            "HTTP, mjpeg": (
                enter(http_camera(lambda: itertools.cycle(parts), MULTIPART, 1 / 15)),
                {},
            ),
            "video, h264": (str(h264.folder / "clip.mp4"), {"paced": True}),
        }
        for name, clip in (("h264", h264), ("h265", h265)):
            live = http_camera(
                lambda path=clip.folder / "clip.mp4": live_transport_stream(path), TRANSPORT_STREAM
            )
            sources[f"HTTP-TS, {name}"] = (enter(live), {})
        watched = {
            name: Watched(enter(capture(source, stall_s=10, **options)))
            for name, (source, options) in sources.items()
        }
        until = time.monotonic() + minutes * 60
        while (now := time.monotonic()) < until or (
            now < until + 60 and not all(one.counts["whole"] > SEEN for one in watched.values())
        ):
            for one in watched.values():
                one.take()
            time.sleep(0.01)
        result = {
            name: {**one.counts, "reconnects": one.process.status.reconnects}
            for name, one in watched.items()
        }
    if report is not None:
        machine.write(report, {"minutes": minutes, "streams": result})
    for name, counts in result.items():
        assert set(counts) == {"whole", "reconnects"}, (name, counts)
        assert counts["reconnects"] == 0, (name, counts)
        assert counts["whole"] > SEEN, (name, counts)
