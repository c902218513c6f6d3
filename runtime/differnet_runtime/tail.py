"""Sets a threshold from few good scores, by a log-normal fitted to them.

The threshold is the prediction quantile of normal theory for the scores' logarithms: of n scores
with mean m and standard deviation s, a new one exceeds m + t s sqrt(1 + 1/n) with probability
`rate`, where t is Student's quantile at 1 - rate with n - 1 degrees of freedom (Hahn and Meeker
1991, Statistical Intervals, section 4.7). It is right as far as the logarithms are normal.

Student's distribution is computed with the regularised incomplete beta function's continued
fraction (Press et al. 2007, Numerical Recipes, section 6.4): the runtime does without scipy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEAST = 3
"""The fewest scores that a log-normal can be fitted to."""
_TINY, _CLOSE, _TERMS = 1e-300, 1e-15, 500
_STEPS = 400
"""Intervals of Simpson's rule; even."""


def lognormal_threshold(scores: NDArray[np.float64], rate: float) -> float:
    """Returns the value that a new good part exceeds with probability `rate`.

    Args:
        scores: `(n,) float64` of good parts, all above 0, n at least `LEAST`.
        rate: Within (0, 1).
    """
    logarithms = np.log(scores)
    spread = float(np.std(logarithms, ddof=1))
    return math.exp(float(np.mean(logarithms)) + reach(len(scores), rate) * spread)


def reach(count: int, rate: float) -> float:
    """Returns how many standard deviations above the mean of `count` scores the threshold lies."""
    return student_quantile(1.0 - rate, count - 1) * math.sqrt(1.0 + 1.0 / count)


@lru_cache(maxsize=64)
def lognormal_bound(count: int, rate: float, confidence: float) -> float:
    """Returns an upper bound of the share of good parts above the threshold.

    It holds with this confidence over sets of `count` scores, if their logarithms are normal.
    The share of a threshold k standard deviations above the mean exceeds 1 - Phi(z) with
    probability E[Phi(sqrt(count) (z - k S))], S^2 being chi-square over its degrees of freedom.
    """
    k, root, normal = reach(count, rate), math.sqrt(count), NormalDist()
    ratios, weights = _spreads(count - 1)
    low, high = -40.0, 40.0
    for _ in range(80):
        z = (low + high) / 2.0
        exceeding = math.fsum(
            weight * normal.cdf(root * (z - k * ratio))
            for ratio, weight in zip(ratios, weights, strict=True)
        )
        low, high = (low, z) if exceeding > 1.0 - confidence else (z, high)
    return normal.cdf(-high)


def _spreads(freedom: int) -> tuple[list[float], list[float]]:
    """Returns ratios of a sample's standard deviation to the true one, and their probabilities."""
    width = 10.0 / math.sqrt(2.0 * freedom)
    first, last = max(1e-9, 1.0 - width), 1.0 + width
    step = (last - first) / _STEPS
    ratios = [first + step * k for k in range(_STEPS + 1)]
    simpson = [1.0, *([4.0, 2.0] * (_STEPS // 2))[:-1], 1.0]
    logs = [(freedom - 1) * math.log(r) - freedom * r * r / 2.0 for r in ratios]
    peak = max(logs)
    weights = [s * math.exp(log - peak) for s, log in zip(simpson, logs, strict=True)]
    total = math.fsum(weights)
    return ratios, [weight / total for weight in weights]


@lru_cache(maxsize=64)
def student_quantile(probability: float, freedom: int) -> float:
    """Returns the value that Student's t stays below with this probability, within (0, 1)."""
    if probability < 0.5:
        return -student_quantile(1.0 - probability, freedom)
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < probability:
        low, high = high, 2.0 * high
    while (middle := (low + high) / 2.0) not in (low, high):
        low, high = (middle, high) if student_cdf(middle, freedom) < probability else (low, middle)
    return high


def student_cdf(value: float, freedom: int) -> float:
    """Returns P(T <= value) for Student's t."""
    square = value * value
    x, y = freedom / (freedom + square), square / (freedom + square)
    tail = 0.5 * _incomplete_beta(x, y, freedom / 2.0, 0.5)
    return 1.0 - tail if value > 0.0 else tail


def _incomplete_beta(x: float, y: float, a: float, b: float) -> float:
    """Returns the regularised incomplete beta function I_x(a, b); y is 1 - x without rounding."""
    if x <= 0.0 or y <= 0.0:
        return float(x > 0.0)
    if x > (a + 1.0) / (a + b + 2.0):  # here the mirrored function converges faster
        return 1.0 - _incomplete_beta(y, x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log(y)
    return math.exp(front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Evaluates the beta function's continued fraction by Lentz's method."""
    c, d = 1.0, 1.0 / _nonzero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            d = 1.0 / _nonzero(1.0 + term * d)
            c = _nonzero(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < _CLOSE:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
