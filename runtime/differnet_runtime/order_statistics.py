"""How often new parts exceed a score of the calibration's: exact laws of order statistics.

The laws and their source are in `calibration`, which uses them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from fractions import Fraction


def batch_bound(images: int, rank: int, parts: int, confidence: float) -> int:
    """Returns how many of the next `parts` good parts score above the threshold, at most.

    The exact `confidence` quantile of BetaBinomial(parts, images + 1 - rank, rank), in whole
    numbers: of all orders in which the new scores and the old ones can lie, those with j new
    ones above the `rank`-th old one are C(j + images - rank, j) C(parts - j + rank - 1, parts - j).

    Args:
        images: Number of calibration scores.
        rank: The one of them that sets the threshold, from 1 on, smallest first.
        parts: Number of good parts still to come.
        confidence: Probability of the promise, over calibrations and parts together.
    """
    above, below = images + 1 - rank, rank
    wanted = Fraction(str(confidence)) * math.comb(images + parts, parts)
    orders, reached = math.comb(parts + below - 1, parts), 0
    for rejected in range(parts):
        reached += orders
        if reached >= wanted:
            return rejected
        orders *= (parts - rejected) * (rejected + above)
        orders //= (rejected + 1) * (parts - rejected - 1 + below)
    return parts


def upper_bound(images: int, rank: int, confidence: float) -> float:
    """Returns the share of good parts above the `rank`-th of `images` scores, bounded from above.

    The `confidence` quantile of Beta(images + 1 - rank, rank), through its binomial tail.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if binomial_cdf(images - rank, images, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def binomial_cdf(most: int, trials: int, probability: float) -> float:
    """Returns P(X <= most) for X ~ Binomial(trials, probability)."""
    if probability >= 1.0:
        return float(most >= trials)
    log_p, log_q = math.log(probability), math.log1p(-probability)
    log_terms = (
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * log_p
        + (trials - k) * log_q
        for k in range(most + 1)
    )
    return math.fsum(math.exp(term) for term in log_terms)


def binomial_quantile(trials: int, probability: float, confidence: float) -> int:
    """Returns the least count that X ~ Binomial exceeds with probability 1 - `confidence` at most.

    Args:
        trials: Number of trials.
        probability: Chance that one of them succeeds, 0 to 1.
        confidence: Within (0, 1).
    """
    counts = range(trials + 1)
    return bisect_left(counts, confidence, key=lambda most: binomial_cdf(most, trials, probability))
