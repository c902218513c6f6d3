"""Which frames of a compressed stream can't be trusted after a part of it was lost.

A decoder that misses a frame shows what follows damaged, and says nothing. What is missing is
seen in the time stamps: a gap. What is wrong within a frame is said by whatever read and decoded
it. From either to the next key frame, which needs no other, frames are in quarantine. A frame that
was predicted from both sides (B) is known to be whole only once those after it, up to one that is
not, have come without a gap.

How far behind a stream is: frames that wait to be decoded look new when they are read.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import replace

from ..records import Frame
from ..sentences import sentence

_DRIFT = 1e-3
"""Clocks differ by less; and a lag that grows slower is not seen."""


class Lag:
    """Compares when frames come with when they were taken, by the camera's clock.

    Args:
        paced: Whether frames are sent at the pace of their stamps, as over RTSP. Over HTTP stamps
            may run faster than time; there a frame that had to be waited for is no late one.
    """

    def __init__(self, paced: bool = True) -> None:
        self._paced = paced
        self._least_s: float | None = None
        self._last_s = self._lag_s = self._last_stamp_ms = 0.0

    def seconds(self, read_s: float, stamp_ms: float, waited: bool = False) -> float:
        """Returns how much later than the promptest frame this one came.

        Args:
            read_s: Monotonic time after the read.
            stamp_ms: The stream's own.
            waited: Whether the frame had to be waited for, so that none was queued behind it.
        """
        late_s = read_s - stamp_ms / 1e3
        if self._least_s is None or (waited and not self._paced):
            self._least_s = late_s
        elif stamp_ms < self._last_stamp_ms:  # they were set anew; frames are as late as before
            self._least_s = late_s - self._lag_s
        else:
            self._least_s = min(self._least_s + _DRIFT * (read_s - self._last_s), late_s)
        self._last_s, self._last_stamp_ms = read_s, stamp_ms
        self._lag_s = late_s - self._least_s
        return self._lag_s


_FRAME_GAP = 1.5
"""So many intervals between two frames are a gap."""
_WINDOW, _FEW = 31, 5
_MOST_HELD = 16
_FRAME_START = sentence("stream_no_key_frame")
_TOO_MANY = sentence("stream_frames_wait", most=_MOST_HELD)


class Quarantine:
    """Judges frames in the order of presentation, and gives them back in that order.

    Args:
        fps: What the stream says of itself; may be wrong.
        live: Whether a stream is joined anywhere, and its frames come at even intervals; those of a
            file need not, and its decoder gives nothing before its first key frame.
    """

    def __init__(self, fps: float | None = None, *, live: bool = True) -> None:
        self._live = live
        self._told_ms = 1e3 / fps if fps else None
        self._intervals: deque[float] = deque(maxlen=_WINDOW)
        self._last_ms: float | None = None
        self._damage: str | None = _FRAME_START if live else None
        self._held: list[Frame] = []

    def judge(self, frame: Frame, picture: str, key: bool) -> list[Frame]:
        """Takes the next frame.

        Args:
            frame: With its `stream_ms`, and with its own damage where some was seen.
            picture: `I`, `P`, `B`, or another sign where that is not known.
            key: Whether no frame after it needs one before it.

        Returns:
            Frames of which it is known now whether they are whole; their damage says it.
        """
        timed = self._live and frame.stream_ms is not None
        gap = self._gap(frame.stream_ms) if timed and frame.stream_ms is not None else None
        own = frame.damage
        if picture == "B" and (own or gap or self._damage) is None:
            self._held.append(frame)
            return self._release(_TOO_MANY) if len(self._held) > _MOST_HELD else []
        released = self._release(_after(own) if own else gap)
        if gap:
            self._damage = gap
        if key:
            self._damage = None
        damage = own or self._damage
        if own:
            self._damage = _after(own)
        return [*released, replace(frame, damage=damage)]

    def lose(self, damage: str) -> list[Frame]:
        """Takes that a picture is missing; returns the frames that waited for it."""
        self._damage = _after(damage)
        return self._release(self._damage)

    def rest(self) -> list[Frame]:
        """Returns the frames that still wait, at the end of a file."""
        return self._release(None)

    def _release(self, damage: str | None) -> list[Frame]:
        released = [replace(frame, damage=damage) for frame in self._held]
        self._held = []
        return released

    def _gap(self, stamp_ms: float) -> str | None:
        last_ms, self._last_ms = self._last_ms, stamp_ms
        if last_ms is None:
            return None
        passed_ms, usual_ms = stamp_ms - last_ms, self._usual_ms()
        if passed_ms <= 0:
            return sentence("stream_jumped")
        self._intervals.append(passed_ms)
        if usual_ms is not None and passed_ms <= _FRAME_GAP * usual_ms:
            return None
        usual = "not known yet" if usual_ms is None else f"{usual_ms:.1f} ms"
        return sentence("stream_gap", passed_ms=passed_ms, usual=usual)

    def _usual_ms(self) -> float | None:
        """Returns the interval that most frames have; while few are known, the shortest."""
        if len(self._intervals) >= _FEW:
            return statistics.median_low(self._intervals)
        known = [*self._intervals, *([self._told_ms] if self._told_ms else [])]
        return min(known, default=None)


def _after(damage: str) -> str:
    return sentence("stream_after_damage", why=damage)
