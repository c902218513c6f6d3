"""What pictures look like, in two numbers: brightness and sharpness of the model's input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..metadata import Appearance


class Look(NamedTuple):
    """Of one picture: mean grey level, 0..255, and `sharpness`."""

    brightness: float
    sharpness: float


def look(prepared: NDArray[np.uint8]) -> Look:
    """Measures a picture.

    Args:
        prepared: `(size, size, 3 | 4) uint8`, as `preprocess` gives it.
    """
    code = cv2.COLOR_BGR2GRAY if prepared.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
    grey = cv2.cvtColor(prepared, code)
    return Look(float(cv2.mean(grey)[0]), sharpness(grey))  # type: ignore[arg-type]


def sharpness(grey: NDArray[np.uint8]) -> float:
    """Says how fine the finest detail of a picture is, whatever its contrast and exposure.

    Mean square of the Laplacian over mean square of the gradient, both of the picture at half
    its size (Gaussian pyramid). This is the mean square of the frequency, weighted by the energy
    of the edges: of an edge that a Gaussian of s pixels has blurred it is 1 / (2 s^2), and
    neither gain nor offset changes it. Halving averages a sensor's noise away.

    Args:
        grey: `(H, W) uint8`.

    Returns:
        The ratio; 0 for a picture without any edge.
    """
    half = cv2.pyrDown(grey).astype(np.float32)
    across, down = half[:, 1:] - half[:, :-1], half[1:] - half[:-1]
    edges = float(np.vdot(across, across) + np.vdot(down, down))
    detail = cv2.Laplacian(half, cv2.CV_32F)
    return float(np.vdot(detail, detail)) / edges if edges > 0 else 0.0


def appearance_of(looks: Iterable[Look]) -> Appearance | None:
    """Returns the range of good pictures; None where there is none."""
    looks = list(looks)
    if not looks:
        return None
    brightness = [one.brightness for one in looks]
    return Appearance(
        darkest=min(brightness),
        brightest=max(brightness),
        softest=min(one.sharpness for one in looks),
        images=len(looks),
    )
