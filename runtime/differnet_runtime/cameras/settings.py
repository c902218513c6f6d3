"""Locks what a camera would otherwise change by itself: exposure, gain and white balance.

A model learns how good parts look at one setting; a camera that adjusts itself between
training and inspection makes good parts look different.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import cv2

from ..sentences import sentence

_MANUAL_EXPOSURE = 1.0 if sys.platform == "linux" else 0.25
"""V4L2's menu entry for manual; other systems' drivers take a quarter."""


class Controls(Protocol):
    """The two methods of `cv2.VideoCapture` that settings need."""

    def get(self, propId: int, /) -> float:  # noqa: N803 - OpenCV's name
        """Returns a property's value."""

    def set(self, propId: int, value: float, /) -> bool:  # noqa: N803 - OpenCV's name
        """Sets a property; returns whether the driver took it."""


@dataclass(frozen=True)
class Setting:
    """What became of one setting.

    Args:
        name: `exposure`, `gain` or `white_balance`; of a station's camera also `width`, `height`,
            `fps` and `fourcc`, the pixel format's four letters as a number; of a stream or video
            `decoder`, whose warning says what it can't see.
        requested: The value asked for, in the driver's units; None if there was none to ask for.
        actual: The value that the camera reports afterwards; None if it reports none.
        warning: What the driver refused; None if the setting is locked.
    """

    name: str
    requested: float | None
    actual: float | None
    warning: str | None = None


@dataclass(frozen=True)
class _Control:
    name: str
    value: int
    automatic: int | None = None
    manual: float = 0.0


_CONTROLS = (
    _Control("exposure", cv2.CAP_PROP_EXPOSURE, cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL_EXPOSURE),
    _Control("gain", cv2.CAP_PROP_GAIN),
    _Control("white_balance", cv2.CAP_PROP_WB_TEMPERATURE, cv2.CAP_PROP_AUTO_WB),
)

_FORM = {
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "fps": cv2.CAP_PROP_FPS,
}


def lock_settings(controls: Controls, wanted: Mapping[str, float | None]) -> list[Setting]:
    """Switches the automatics off and keeps the present values, or those wanted.

    Args:
        controls: The opened device, after its automatics have settled.
        wanted: Values by setting name, in the driver's units; where there is none, or None,
            the present value is kept.

    Returns:
        One entry per setting, with what the driver refused.
    """
    # All values are read first: one automatic switched off can move the others.
    present = {control.name: _value(controls, control.value) for control in _CONTROLS}
    requested = {name: wanted.get(name) for name in present}
    for name, value in present.items():
        if requested[name] is None:
            requested[name] = value
    return [_lock(controls, control, requested[control.name]) for control in _CONTROLS]


def apply_settings(
    controls: Controls,
    *,
    fourcc: str,
    form: Mapping[str, float | None],
    wanted: Mapping[str, float | None],
) -> list[Setting]:
    """Sets what is asked for, leaves the rest as it is, and reads back what the camera does.

    Args:
        controls: The opened device, whose pixel format was asked for already.
        fourcc: That format.
        form: `width`, `height` and `fps`; None is left to the camera.
        wanted: `exposure`, `gain` and `white_balance`, likewise.
    """
    # Size before rate: a device offers rates by size.
    settings = [_formed(controls, name, prop, form.get(name)) for name, prop in _FORM.items()]
    settings.append(_pixel_format(controls, fourcc))
    for control in _CONTROLS:
        if wanted.get(control.name) is not None:
            settings.append(_lock(controls, control, wanted[control.name]))
        else:
            settings.append(Setting(control.name, None, _value(controls, control.value)))
    return settings


def _formed(controls: Controls, name: str, prop: int, requested: float | None) -> Setting:
    if requested is not None:
        controls.set(prop, requested)
    actual = _value(controls, prop)
    if requested is None or (actual is not None and abs(actual - requested) < 0.5):
        return Setting(name, requested, actual)
    told = "no value" if actual is None else f"{actual:g}"
    warning = sentence("setting_other", name=name, requested=requested, actual=told)
    return Setting(name, requested, actual, warning)


def _pixel_format(controls: Controls, fourcc: str) -> Setting:
    requested = float(cv2.VideoWriter.fourcc(*fourcc))
    actual = _value(controls, cv2.CAP_PROP_FOURCC)
    if actual == requested:
        return Setting("fourcc", requested, actual)
    told = "none" if actual is None else repr(fourcc_letters(actual))
    warning = sentence("pixel_format_other", requested=fourcc, actual=told)
    return Setting("fourcc", requested, actual, warning)


def fourcc_letters(code: float) -> str:
    """Returns the four letters of a pixel format."""
    return int(code).to_bytes(4, "little").decode("latin-1")


def _lock(controls: Controls, control: _Control, requested: float | None) -> Setting:
    name = control.name
    refusals = []
    if control.automatic is not None and not controls.set(control.automatic, control.manual):
        refusals.append(sentence("setting_automatic", name=name))
    if requested is None:
        refusals.append(sentence("setting_absent", name=name))
    elif not controls.set(control.value, requested):
        refusals.append(sentence("setting_refused", name=name, requested=requested))
    actual = _value(controls, control.value)
    if (
        not refusals
        and actual is not None
        and not math.isclose(actual, requested or 0.0, abs_tol=0.5)
    ):
        told = f"{actual:g}"
        refusals.append(sentence("setting_other", name=name, requested=requested, actual=told))
    return Setting(name, requested, actual, "; ".join(refusals) or None)


def _value(controls: Controls, prop: int) -> float | None:
    value = controls.get(prop)
    # OpenCV reports -1 for what a driver does not know.
    return value if math.isfinite(value) and value != -1.0 else None
