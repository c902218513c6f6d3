"""Waiting for a condition instead of a time."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], within_s: float = 60.0) -> float:
    """Returns the seconds that it took; fails where it takes too long."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within_s, "it did not happen in time"
        time.sleep(0.005)
    return time.monotonic() - start
