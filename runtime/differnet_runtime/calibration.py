"""The threshold, from the scores of good parts only, with what it promises.

Split conformal prediction: of n scores that training never saw, the k-th smallest with
k = ceil((n + 1) (1 - rate)) is exceeded by a new good part with probability at most `rate`
(Vovk et al. 2005, Algorithmic Learning in a Random World). What one calibration promises is
said twice, with a confidence. Of the next m good parts, the number above the threshold follows
BetaBinomial(m, n + 1 - k, k), so its quantile is a promise that can be counted. In the long
run, the share of good parts above it follows Beta(n + 1 - k, k). Ties only lower both.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .errors import CalibrationError
from .metadata import Calibration
from .records import Score

DEFAULT_FALSE_REJECT_RATE = 0.05
CONFIDENCE = 0.95
BATCH = 1000
"""Good parts that the printed promise speaks of."""
HEADROOM = 1e-4
"""The threshold lies this share above the score that sets it, so that rounding in another backend
does not turn the verdict of that very picture. It only lowers the false-reject rate."""


def calibrate(
    good_scores: Sequence[float],
    false_reject_rate: float = DEFAULT_FALSE_REJECT_RATE,
    *,
    confidence: float = CONFIDENCE,
    scored_by: str,
    headroom: float = HEADROOM,
    method: Literal["split", "out_of_fold"] = "split",
) -> Calibration:
    """Chooses the threshold for a wanted false-reject rate.

    Args:
        good_scores: Scores of good parts that neither training nor early stopping saw.
        false_reject_rate: Share of good parts that may be rejected, on average.
        confidence: For the printed bound.
        scored_by: What gave the scores: `torch` or a backend.
        headroom: See `HEADROOM`; the error of FP16, where that is greater.

    Returns:
        Threshold, bound and the sorted scores.

    Raises:
        CalibrationError: Too few scores for the rate, or scores that are not finite.
    """
    scores = np.sort(np.asarray(good_scores, dtype=np.float64))
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise CalibrationError(
            f"{count} of {scores.size} good scores are not finite numbers; no threshold can be "
            "set. Look at those pictures, and train again."
        )
    check_enough(scores.size, false_reject_rate)
    rank = threshold_rank(scores.size, false_reject_rate)
    score = float(scores[rank - 1])
    return Calibration(
        threshold=score + headroom * abs(score),
        false_reject_rate=false_reject_rate,
        confidence=confidence,
        bound=upper_bound(scores.size, rank, confidence),
        good_scores=tuple(float(score) for score in scores),
        images=scores.size,
        scored_by=scored_by,
        method=method,
    )


def check_enough(images: int, false_reject_rate: float) -> None:
    """Refuses a rate that so few images can't promise.

    Raises:
        CalibrationError: The rate is not within (0, 1), or needs more images.
    """
    if not 0.0 < false_reject_rate < 1.0:
        raise CalibrationError(
            f"the false-reject rate must lie between 0 and 1; received {false_reject_rate}"
        )
    needed = images_needed(false_reject_rate)
    if images < needed:
        raise CalibrationError(
            f"a false-reject rate of {false_reject_rate:g} needs at least {needed} good images for "
            f"calibration; there are {images}. Take more pictures of good parts, or ask for "
            f"--false-reject-rate {_lowest_rate(images):g}."
        )


def images_needed(false_reject_rate: float) -> int:
    """Returns the fewest calibration images with which the rate can be promised on average."""
    return math.ceil(round(1.0 / false_reject_rate, 9)) - 1


def images_for_confidence(false_reject_rate: float, confidence: float = CONFIDENCE) -> int:
    """Returns the fewest images whose greatest score keeps the rate with that confidence."""
    return math.ceil(math.log(1.0 - confidence) / math.log(1.0 - false_reject_rate))


def _lowest_rate(images: int) -> float:
    return math.ceil(1e4 / (images + 1)) / 1e4


def threshold_rank(images: int, false_reject_rate: float) -> int:
    """Returns k: the k-th smallest of the calibration scores sets the threshold."""
    return math.ceil(round((images + 1) * (1.0 - false_reject_rate), 9))


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


def promised_rejects(calibration: Calibration, parts: int = BATCH) -> int:
    """Returns how many of the next `parts` good parts this calibration rejects, at most."""
    rank = threshold_rank(calibration.images, calibration.false_reject_rate)
    return batch_bound(calibration.images, rank, parts, calibration.confidence)


def upper_bound(images: int, rank: int, confidence: float) -> float:
    """Returns the share of good parts above the `rank`-th of `images` scores, bounded from above.

    The `confidence` quantile of Beta(images + 1 - rank, rank), through its binomial tail.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if _binomial_cdf(images - rank, images, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def _binomial_cdf(most: int, trials: int, probability: float) -> float:
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


def good_percentile(good_scores: Sequence[float], score: float) -> float:
    """Returns the share, in percent, of (ascending) good scores that are at most `score`."""
    return 100.0 * bisect_right(good_scores, score) / len(good_scores)


def judged(
    value: float, calibration: Calibration | None, heatmap: NDArray[np.float32] | None = None
) -> Score:
    """Returns a score with what is needed to judge it; without a threshold if there is none."""
    if calibration is None:
        return Score(value, None, None, heatmap=heatmap)
    percentile = good_percentile(calibration.good_scores, value) if value == value else None
    lowest = calibration.lowest_plausible
    return Score(value, calibration.threshold, percentile, lowest, heatmap)


def describe(calibration: Calibration) -> str:
    """Says what the threshold promises, and what it would take to promise more."""
    text = (
        f"Threshold {calibration.threshold:.4g} from {calibration.images} good images: on average "
        f"{calibration.false_reject_rate:.2%} of good parts are rejected. Of the next {BATCH:,} "
        f"good parts, with {calibration.confidence:.0%} confidence at most "
        f"{promised_rejects(calibration):,} will be; in the long run, with the same confidence, "
        f"at most {calibration.bound:.2%}."
    )
    needed = images_for_confidence(calibration.false_reject_rate, calibration.confidence)
    if calibration.bound > calibration.false_reject_rate and calibration.images < needed:
        text += (
            f" To be sure of {calibration.false_reject_rate:.2%} in the long run with "
            f"{calibration.confidence:.0%} confidence takes at least {needed} calibration images."
        )
    return text
