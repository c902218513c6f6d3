"""Where a picture stops being one of a part: from the good pictures, with room beside them."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.integrity import IntegrityConfig
from ..metadata import Appearance

_BLACK, _WHITE = 8.0, 247.0
"""Limits of the mean grey level where nothing is known of good pictures."""
_DARK, _BRIGHT = 12.0, 225.0
"""Between these two nothing is black or blown out: how a part looks is for the model to judge."""


@dataclass(frozen=True)
class Limits:
    """What is expected of a picture: mean grey level within two limits, and sharpness."""

    black: float
    blown: float
    sharpness: float

    @classmethod
    def choose(cls, config: IntegrityConfig, good: Appearance | None) -> Limits:
        """Returns the station's limits, and those of the good pictures where it names none.

        Black is half the low end of their mean grey levels (at most 12 of 255); blown out is
        half-way from the high end to white (at least 225). Blurred is half the low end of their
        sharpness, and less where few were measured: a third after 20.
        """
        black, blown, sharpness = _BLACK, _WHITE, 0.0
        if good is not None:
            black = min(good.darkest / 2.0, _DARK)
            blown = max((good.brightest + 255.0) / 2.0, _BRIGHT)
            sharpness = good.softest / (2.0 + 20.0 / good.images)
        return cls(
            black if config.black is None else config.black,
            blown if config.blown is None else config.blown,
            sharpness if config.sharpness is None else config.sharpness,
        )
