"""Lost H.264 access units over a real RTSP connection: no damaged frame is handed out as whole.

Each frame carries its number, and is compared with that very frame of the clip when nothing is
lost: one pixel that differs is damage. `tests/runtime/cameras/test_stream.py` does the same with
more losses, without the network.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks.machine import write
from differnet_runtime.capture.process import CaptureProcess
from differnet_runtime.records import Frame
from tests.fakes.clips import Clip, number_of
from tests.fakes.rtsp import RtspCamera, rtsp_camera
from tests.faults.capturing import capture

SHARES = (0.01, 0.03, 0.10)
SEEN = 50
"""Frames of a kind that must have been seen."""
LEAST = 0.95


@dataclass
class Watched:
    """What came of one camera.

    Args:
        camera: It.
        process: Its capture process.
        clean: The clip's frames when nothing is lost.
    """

    camera: RtspCamera
    process: CaptureProcess
    clean: list[np.ndarray]
    share: float
    """Of its access units that are lost."""
    counts: Counter[str] = field(default_factory=Counter)
    by_place: dict[int, bool] = field(default_factory=dict)
    """Of each frame since the stream's start: whether it was handed out as whole."""

    def take(self) -> None:
        """Takes what is there, and judges it."""
        while self.process.wait(0):
            frame = self.process.take()
            if frame is not None:
                self.judge(frame)

    def judge(self, frame: Frame) -> None:
        number = number_of(frame.image)
        whole = number < len(self.clean) and np.array_equal(frame.image, self.clean[number])
        handed = frame.damage is None
        self.counts[f"{'handed out' if handed else 'held back'}, {_is(whole)}"] += 1
        if (
            self.process.status.reconnects == 0 and frame.stream_ms is not None
        ):  # else places are counted from the start again
            self.by_place[round(frame.stream_ms * self.camera.clip.fps / 1e3)] = handed

    def enough(self) -> bool:
        """Whether there is something to be judged: losses, whole frames and damaged ones."""
        whole, damaged = self.counts["handed out, whole"], self.counts["held back, damaged"]
        often = self.share == max(SHARES)  # the others may lose too little to see damage
        return whole > SEEN and bool(self.camera.dropped) and (damaged > SEEN or not often)

    def share_of_undamaged(self) -> float:
        """Returns the share that was handed out of frames before a loss and from key frames on."""
        dropped = {unit for client, unit in self.camera.dropped if client == 0}
        first = min(set(range(100)) - dropped)
        gop, lost = self.camera.clip.gop, {unit - first for unit in dropped}
        starts = {place: place - (place + first) % gop for place in self.by_place}
        sound = [
            handed
            for place, handed in self.by_place.items()
            if not lost & set(range(starts[place], place + 1))
        ]
        return sum(sound) / len(sound)


def _is(whole: bool) -> str:
    return "whole" if whole else "damaged"


def watch(clip: Clip, seconds: float, seed: int) -> dict[str, dict[str, float]]:
    """Watches a camera for each share of loss, all at once."""
    with contextlib.ExitStack() as stack:
        watched = {}
        for share in SHARES:
            camera = stack.enter_context(rtsp_camera(clip, drop=share, seed=seed))
            process = stack.enter_context(capture(camera.url))
            watched[f"{share:.0%}"] = Watched(camera, process, clip.whole(), share)
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until or (
            now < until + 60.0 and not all(one.enough() for one in watched.values())
        ):
            for one in watched.values():
                one.take()
            time.sleep(0.002)
        return {
            name: {
                **one.counts,
                "lost access units": len(one.camera.dropped),
                "of undamaged frames handed out": round(one.share_of_undamaged(), 4),
            }
            for name, one in watched.items()
        }


def check(results: dict[str, dict[str, float]]) -> None:
    for share, result in results.items():
        assert result.get("handed out, damaged", 0) == 0, (share, results)
        assert result["of undamaged frames handed out"] >= LEAST, (share, results)
        assert result["lost access units"] > 0
        assert result["handed out, whole"] > SEEN


def test_no_damaged_frame_is_handed_out_over_rtsp() -> None:
    results = watch(Clip(fps=60), 7.0, seed=11)
    check(results)
    assert results["10%"]["held back, damaged"] > SEEN  # the losses do damage


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_no_damaged_frame_is_handed_out_for_long() -> None:
    results = {}
    for name, clip in {
        "30 per second, key frame every 30": Clip(),
        "60 per second, key frame every 90": Clip(fps=60, gop=90, frames=360),
    }.items():
        results[name] = watch(clip, 300.0, seed=5)
    write("lost_packets", {"lost_packets": results})
    for result in results.values():
        check(result)
