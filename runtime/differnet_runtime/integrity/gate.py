"""The gate of one source: what it lets through may be scored, all else is NO_DECISION."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..config.integrity import IntegrityConfig
from ..metadata import ModelMetadata
from ..records import Decision, Frame, Verdict
from ..sentences import sentence
from .appearance import Look, look
from .limits import Limits


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
        self._limits = Limits.choose(config, metadata.appearance if metadata else None)
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
