"""Refuses frames that must not be scored: late, damaged, of a wrong size, dark, frozen or blurred.

Two numbers say what a picture looks like, brightness and sharpness of the model's input. How far
they may be from those of the good pictures follows from the good pictures themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config.models import IntegrityConfig
from ..model_file.metadata import Appearance, ModelMetadata
from ..records import Decision, Frame
from ..sentences import sentence
from .preprocess import grey

_BLACK, _WHITE = 8.0, 247.0
"""Limits of the mean grey level where nothing is known of good pictures."""
_DARK, _BRIGHT = 12.0, 225.0
"""Between these two nothing is black or blown out: how a part looks is for the model to judge."""
_CHOSEN = {"black", "blown", "sharpness"}
"""The limits that a station's configuration may set."""


class IntegrityGate:
    """The image checks of one source, for its frames in their order; used by one thread.

    Args:
        config: The source's limits; what it leaves open comes from the model's good pictures.
        metadata: Metadata of the model that judges; None if there is no model, so that nothing is
            known of good pictures.
        live: Whether frames come by themselves, so that the source can freeze.
        stale_after_s: Greatest age of a frame in seconds: an older one does not show the part that
            is there now.
        one_size: Whether all frames must have the size of the first good one, if the model does
            not know which sizes it learned from.

    Example:
        >>> gate = IntegrityGate(IntegrityConfig(), None)
        >>> black = Frame(np.zeros((480, 640, 3), np.uint8), "a", 0, 0, 0.0)
        >>> gate.check(black, black.image, now_ns=0).code
        'black'
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
            frame: The frame that the camera gave.
            prepared: `(height, width, 3 | 4) uint8`: what `preprocess` made of it.
            now_ns: The present, as `time.monotonic_ns()` gives it.

        Returns:
            None where it may be scored; else NO_DECISION with the reason and one of the codes
            stale, damaged, wrong_size, black, blown_out, frozen and blurred.
        """
        limits = self._limits
        age_s = (now_ns - frame.captured_ns) / 1e9
        if age_s > self._stale_after_s:
            return no_decision("stale", "frame_stale", age_s=age_s, most_s=self._stale_after_s)
        if frame.damage is not None:
            return Decision.none("damaged", frame.damage)
        height, width = frame.image.shape[:2]
        if wrong_size := None if self._any_size else self._wrong_size(width, height):
            return wrong_size
        mean, sharpness = look(prepared)
        if mean < limits.black:
            return no_decision("black", "picture_black", mean=mean, least=limits.black)
        if mean > limits.blown:
            return no_decision("blown_out", "picture_blown_out", mean=mean, most=limits.blown)
        if self._frozen_after_s and frame.unchanged_s >= self._frozen_after_s:
            return no_decision("frozen", "picture_frozen", unchanged_s=frame.unchanged_s)
        if sharpness < limits.sharpness:
            return no_decision(
                "blurred", "picture_blurred", sharpness=sharpness, least=limits.sharpness
            )
        self._first_size = self._first_size or (width, height)
        return None

    def _wrong_size(self, width: int, height: int) -> Decision | None:
        known, first = self._known_sizes, self._first_size
        size = f"{width} x {height}"
        if known is not None and not known.accepts(width, height):
            return no_decision("wrong_size", "size_unknown", size=size, known=known)
        if self._one_size and first is not None and (width, height) != first:
            before = f"{first[0]} x {first[1]}"
            return no_decision("wrong_size", "size_changed", size=size, before=before)
        return None


def no_decision(code: str, message: str, **values: object) -> Decision:
    """Returns NO_DECISION with a code, and as its reason a sentence of the catalogue."""
    return Decision.none(code, sentence(message, **values))


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
        limits = cls(_BLACK, _WHITE, 0.0)
        if good is not None:
            limits = cls(
                min(good.darkest / 2.0, _DARK),
                max((good.brightest + 255.0) / 2.0, _BRIGHT),
                good.softest / (2.0 + 20.0 / good.images),
            )
        return replace(limits, **config.model_dump(include=_CHOSEN, exclude_none=True))


class Look(NamedTuple):
    """How a picture looks: its mean grey level, 0..255, and its sharpness; see `look`."""

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
    image = grey(prepared)
    brightness = cv2.mean(image)[0]
    if brightness == 0:
        return Look(0.0, 0.0)
    detail = cv2.Laplacian(cv2.pyrDown(image.astype(np.float32)), cv2.CV_32F)
    energy = float(np.vdot(detail, detail)) / detail.size
    return Look(brightness, energy / brightness**2)


def appearance_of(looks: Sequence[Look]) -> Appearance:
    """Returns the range in which good pictures lie, from the looks of at least one.

    A few pictures that don't belong must not widen it, so its ends are not the least and the
    greatest: they lie three times as far from the median as the tenth of the pictures that is
    farthest out on that side begins, by the logarithm of light, of the rest to white, or of
    sharpness. Of a normal distribution, 1 picture in 16,000 lies outside each end.
    """
    brightness, sharpness = np.array(looks).T
    return Appearance(
        darkest=_low_end(brightness),
        brightest=255.0 - _low_end(255.0 - brightness),
        softest=_low_end(sharpness),
        images=len(looks),
    )


def _low_end(values: NDArray[np.float64]) -> float:
    """Returns the low end of values from 0 on; see `appearance_of`."""
    median, low = np.quantile(values, (0.5, 0.1))
    return float(median * (low / median) ** 3) if median > 0.0 else 0.0
