"""The gate of one source: what it lets through may be scored, all else is NO_DECISION.

Where a picture stops being one of a part: from the good pictures, with room beside them.

What pictures look like, in two numbers: brightness and sharpness of the model's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config.models import IntegrityConfig
from ..model_file.metadata import Appearance, ModelMetadata
from ..records import Decision, Frame, Verdict
from ..sentences import sentence

_BLACK, _WHITE = 8.0, 247.0
"""Limits of the mean grey level where nothing is known of good pictures."""
_DARK, _BRIGHT = 12.0, 225.0
"""Between these two nothing is black or blown out: how a part looks is for the model to judge."""


@dataclass(frozen=True)
class AppearanceLimits:
    """What is expected of a picture: mean grey level within two limits, and sharpness."""

    black: float
    blown: float
    sharpness: float

    @classmethod
    def choose(cls, config: IntegrityConfig, good: Appearance | None) -> AppearanceLimits:
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


class Look(NamedTuple):
    """Of one picture: mean grey level, 0..255, and sharpness; see `look`."""

    brightness: float
    sharpness: float


def look(prepared: NDArray[np.uint8]) -> Look:
    """Measures a picture.

    Sharpness is the mean square of the Laplacian over the square of the mean grey level, the
    picture at half its size (Gaussian pyramid). Halving averages most of a sensor's noise away,
    which would pass for detail in a blurred picture; dividing by the mean makes one value of all
    exposures. Haze and stray light lower it as blur does. The variance of the Laplacian as a
    measure of focus: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy".

    Args:
        prepared: `(height, width, 3 | 4) uint8`, as `preprocess` gives it.

    Returns:
        Mean grey level and sharpness; that of a picture without any light is 0.
    """
    code = cv2.COLOR_BGR2GRAY if prepared.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
    grey = cv2.cvtColor(prepared, code)
    brightness = cv2.mean(grey)[0]
    if brightness == 0:
        return Look(0.0, 0.0)
    detail = cv2.Laplacian(cv2.pyrDown(grey.astype(np.float32)), cv2.CV_32F)
    energy = float(np.vdot(detail, detail)) / detail.size
    return Look(brightness, energy / brightness**2)


def appearance_of(looks: Sequence[Look]) -> Appearance:
    """Returns the range of good pictures, of which there is at least one.

    A few pictures that don't belong must not widen it, so its ends are not the least and the
    greatest: they lie three times as far from the median as the tenth of the pictures that is
    farthest out on that side begins, by the logarithm of light, of the rest to white, or of
    sharpness. Of a normal distribution, 1 picture in 16,000 lies outside each end.
    """
    brightness = np.array([one.brightness for one in looks])
    return Appearance(
        darkest=_low_end(brightness),
        brightest=255.0 - _low_end(255.0 - brightness),
        softest=_low_end(np.array([one.sharpness for one in looks])),
        images=len(looks),
    )


def _low_end(values: NDArray[np.float64]) -> float:
    """Returns the low end of values from 0 on; see `appearance_of`."""
    median, low = np.quantile(values, (0.5, 0.1))
    return float(median * (low / median) ** 3) if median > 0.0 else 0.0


class IntegrityGate:
    """Checks the frames of one source, in their order; used by one thread.

    Args:
        config: The source's limits; what it leaves open comes from the model's good pictures.
        metadata: Metadata of the model that judges; None if there is no model, so that nothing is
            known of good pictures.
        live: Whether frames come by themselves, so that the source can freeze.
        stale_after_s: An older frame says nothing of the part that is there now.
        one_size: Whether all frames must have the size of the first good one, if the model does
            not know which sizes it learned from.
    """

    def __init__(
        self,
        config: IntegrityConfig,
        metadata: ModelMetadata | None,
        *,
        live: bool = False,
        stale_after_s: float = math.inf,
        one_size: bool = False,
    ) -> None:
        self._limits = AppearanceLimits.choose(config, metadata.appearance if metadata else None)
        self._stale_after_s = stale_after_s
        self._frozen_after_s = config.frozen_after_s if live else 0.0
        self._any_size = config.size == "any"
        self._known_sizes = metadata.picture_sizes if metadata else None
        self._one_size = one_size and self._known_sizes is None
        self._first_size: tuple[int, int] | None = None

    def check(self, frame: Frame, prepared: NDArray[np.uint8], now_ns: int) -> Decision | None:
        """Says why a frame must not be scored.

        Args:
            frame: As the camera gave it.
            prepared: `(height, width, 3 | 4) uint8`: what `preprocess` made of it.
            now_ns: `time.monotonic_ns()`.

        Returns:
            None where it may be scored; else NO_DECISION with the reason and one of the codes
            stale, damaged, wrong_size, black, blown_out, frozen and blurred.
        """
        found = (
            self._untimely(frame, now_ns)
            or self._misfit(frame)
            or self._wrong_look(prepared, frame.unchanged_s)
        )
        if found is None:
            self._first_size = self._first_size or _size(frame)
        return found

    def _untimely(self, frame: Frame, now_ns: int) -> Decision | None:
        age_s = (now_ns - frame.captured_ns) / 1e9
        if age_s <= self._stale_after_s:
            return None
        return _no(
            "stale",
            sentence("frame_stale", age_s=age_s, most_s=self._stale_after_s),
        )

    def _misfit(self, frame: Frame) -> Decision | None:
        if frame.damage is not None:
            return _no("damaged", frame.damage)
        return None if self._any_size else self._wrong_size(_size(frame))

    def _wrong_size(self, size: tuple[int, int]) -> Decision | None:
        known, first = self._known_sizes, self._first_size
        if known is not None and not known.accepts(*size):
            return _no(
                "wrong_size",
                sentence("size_unknown", size=_text(size), known=known),
            )
        if self._one_size and first is not None and size != first:
            return _no(
                "wrong_size",
                sentence("size_changed", size=_text(size), before=_text(first)),
            )
        return None

    def _wrong_look(self, prepared: NDArray[np.uint8], unchanged_s: float) -> Decision | None:
        seen = look(prepared)
        return self._wrong_light(seen) or self._frozen(unchanged_s) or self._blurred(seen)

    def _wrong_light(self, seen: Look) -> Decision | None:
        mean, limits = seen.brightness, self._limits
        if seen.brightness < limits.black:
            return _no(
                "black",
                sentence("picture_black", mean=mean, least=limits.black),
            )
        if seen.brightness > limits.blown:
            return _no(
                "blown_out",
                sentence("picture_blown_out", mean=mean, most=limits.blown),
            )
        return None

    def _frozen(self, unchanged_s: float) -> Decision | None:
        if not self._frozen_after_s or unchanged_s < self._frozen_after_s:
            return None
        return _no(
            "frozen",
            sentence("picture_frozen", unchanged_s=unchanged_s),
        )

    def _blurred(self, seen: Look) -> Decision | None:
        if seen.sharpness >= self._limits.sharpness:
            return None
        return _no(
            "blurred",
            sentence("picture_blurred", sharpness=seen.sharpness, least=self._limits.sharpness),
        )


def _no(code: str, reason: str) -> Decision:
    return Decision(Verdict.NO_DECISION, reason, code)


def _size(frame: Frame) -> tuple[int, int]:
    height, width = frame.image.shape[:2]
    return width, height


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
