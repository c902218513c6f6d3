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
