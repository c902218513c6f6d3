"""How far behind a stream is: frames that wait to be decoded look new when they are read."""

from __future__ import annotations

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
