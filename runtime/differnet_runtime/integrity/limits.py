"""Where a picture stops being one of a part: from the good pictures, with room beside them."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.models import IntegrityConfig
from ..metadata import Appearance

_BLACK, _WHITE = 8.0, 247.0
"""Where nothing is known of good pictures."""
_DARK, _BRIGHT = 30.0, 225.0
"""However bright good pictures are, a picture within these two is a matter for the model."""
_BLUR = 3.0
"""A picture may be so many times less sharp than the least sharp good one."""


@dataclass(frozen=True)
class Limits:
    """What is expected of a picture: mean grey level within two limits, and sharpness."""

    black: float
    blown: float
    sharpness: float

    @classmethod
    def choose(cls, config: IntegrityConfig, good: Appearance | None) -> Limits:
        """Returns the station's limits, and those of the good pictures where it names none.

        Black is half the mean of the darkest good picture (at most 30 of 255); blown out is
        half-way from the brightest one to white (at least 225); blurred is a third of the
        sharpness of the least sharp one.
        """
        black, blown, sharpness = _BLACK, _WHITE, 0.0
        if good is not None:
            black = min(good.darkest / 2.0, _DARK)
            blown = max((good.brightest + 255.0) / 2.0, _BRIGHT)
            sharpness = good.softest / _BLUR
        return cls(
            black if config.black is None else config.black,
            blown if config.blown is None else config.blown,
            sharpness if config.sharpness is None else config.sharpness,
        )
