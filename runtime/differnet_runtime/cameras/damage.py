"""Which frames of a compressed stream are old or damaged.

A decoder that misses a frame shows the following ones damaged, and says nothing. A missing frame
shows as a gap between time stamps; what is wrong within a frame is reported by its reader. From
either to the next key frame, which refers to no other, frames are in quarantine. A frame predicted
from both sides (B) is known to be whole only once the following ones, up to one that is not B, have
come without a gap.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import replace

from ..records import Frame
from ..sentences import sentence
from .base import Decoded

_DRIFT = 1e-3
"""Greatest drift between two clocks; a lag that grows more slowly is not detected."""


class Lag:
    """Measures how far behind a stream is: frames that wait to be decoded look new when read.

    Compares when frames arrive with when they were taken, by the camera's clock.

    Args:
        paced: Whether frames are sent at the pace of their stamps, as over RTSP. Over HTTP stamps
            may run faster than time; there a frame that had to be waited for is not late.

    Example:
        >>> lag = Lag()
        >>> behind_s = lag.seconds(read_s=12.0, stamp_ms=4000.0)
    """

    def __init__(self, paced: bool = True) -> None:
        self._paced = paced
        self._least_s: float | None = None
        self._last_s = self._lag_s = self._last_stamp_ms = 0.0

    def seconds(self, read_s: float, stamp_ms: float, waited: bool = False) -> float:
        """Returns how many seconds later this frame came than the promptest one.

        Args:
            read_s: Monotonic time after the read.
            stamp_ms: Time stamp of the stream.
            waited: Whether the read had to wait for the frame, so that none was queued behind it.
        """
        late_s = read_s - stamp_ms / 1e3
        if self._least_s is None or (waited and not self._paced):
            self._least_s = late_s
        elif stamp_ms < self._last_stamp_ms:  # the stamps were reset; frames are as late as before
            self._least_s = late_s - self._lag_s
        else:
            self._least_s = min(self._least_s + _DRIFT * (read_s - self._last_s), late_s)
        self._last_s, self._last_stamp_ms = read_s, stamp_ms
        self._lag_s = late_s - self._least_s
        return self._lag_s


_GAP_FACTOR = 1.5
"""Two frames further apart than so many intervals have a gap between them."""
_WINDOW, _FEW = 31, 5
_MOST_HELD = 16


class Quarantine:
    """Marks frames that can't be trusted; takes and returns them in presentation order.

    Args:
        fps: Frame rate in Hz that the stream declares; it may be wrong.
        live: Whether the stream is joined anywhere, and its frames come at even intervals. Those of
            a file need not, and its decoder gives nothing before the first key frame.

    Example:
        >>> quarantine = Quarantine(fps=25.0)
        >>> frames = quarantine.judge(frame, decoded)
    """

    def __init__(self, fps: float | None = None, *, live: bool = True) -> None:
        self._live = live
        self._intervals: deque[float] = deque(maxlen=_WINDOW)
        self._declared_ms = [1e3 / fps] if fps else []
        self._last_ms: float | None = None
        self._damage = sentence("stream_no_key_frame") if live else None
        self._held: list[Frame] = []

    def judge(self, frame: Frame, decoded: Decoded) -> list[Frame]:
        """Takes the next frame.

        Args:
            frame: The frame, with its `stream_ms` and the damage that its reader found.
            decoded: What its reader knows of it.

        Returns:
            The frames that are now known to be whole or damaged, as their `damage` says.
        """
        if decoded.intra_only:
            return [frame]
        gap = self._gap(frame.stream_ms) if self._live and frame.stream_ms is not None else None
        own = frame.damage
        if decoded.picture_type == "B" and (own or gap or self._damage) is None:
            self._held.append(frame)
            if len(self._held) <= _MOST_HELD:
                return []
            return self._release(sentence("stream_frames_wait", most=_MOST_HELD))
        released = self._release(_after(own) if own else gap)
        damage = None if decoded.key else gap or self._damage
        self._damage = _after(own) if own else damage
        return [*released, replace(frame, damage=own or damage)]

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
        if usual_ms is not None and passed_ms <= _GAP_FACTOR * usual_ms:
            return None
        usual = "not known yet" if usual_ms is None else f"{usual_ms:.1f} ms"
        return sentence("stream_gap", passed_ms=passed_ms, usual=usual)

    def _usual_ms(self) -> float | None:
        """Returns the median interval; the shortest while few are known."""
        if len(self._intervals) >= _FEW:
            return statistics.median_low(self._intervals)
        return min([*self._intervals, *self._declared_ms], default=None)


def _after(damage: str) -> str:
    return sentence("stream_after_damage", why=damage)
