"""What pictures look like, in two numbers: brightness and sharpness of the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..metadata import Appearance


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
    """Returns the range of good pictures, of which there is at least one."""
    brightness = [one.brightness for one in looks]
    return Appearance(
        darkest=min(brightness),
        brightest=max(brightness),
        softest=min(one.sharpness for one in looks),
        images=len(looks),
    )
