"""The threshold, from the scores of good parts only, with what it promises.

Split conformal prediction: of n scores that training never saw, the k-th smallest with
k = ceil((n + 1) (1 - rate)) is exceeded by a new good part with probability at most `rate`
(Vovk et al. 2005, Algorithmic Learning in a Random World). What one calibration promises is
said twice, with a confidence. Of the next m good parts, the number above the threshold follows
BetaBinomial(m, n + 1 - k, k), so its quantile is a promise that can be counted. In the long
run, the share of good parts above it follows Beta(n + 1 - k, k). Ties only lower both.

Scores that models of other folds gave (`out_of_fold`) are not those of the finished model, so the
same figures are estimates there, and are called so. Where so few scores are at hand that the rank
would be the greatest, a log-normal may set the threshold; see `tail`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import CalibrationError
from .metadata import Calibration, Method, Tail
from .records import Score
from .tail import LEAST, lognormal_bound, lognormal_threshold

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
    method: Method = "split",
    tail: Tail | Literal["auto"] | None = None,
) -> Calibration:
    """Chooses the threshold for a wanted false-reject rate.

    Args:
        good_scores: Scores of good parts; of each, by a model whose training and early stopping
            did not see it.
        false_reject_rate: Share of good parts that may be rejected, on average.
        confidence: For the printed bound.
        scored_by: What gave the scores: `torch` or a backend.
        headroom: See `HEADROOM`; the error of FP16, where that is greater.
        method: `split` where one model gave all scores, `out_of_fold` where those of folds did.
        tail: `rank`; `lognormal`; or `auto`, which takes the log-normal where the rank would be
            the greatest score, or there are too few for any. None is `rank` for `split`, and
            `auto` for `out_of_fold`.

    Returns:
        Threshold, bound and the sorted scores.

    Raises:
        CalibrationError: Too few scores for the rate, scores that are not finite, or that are not
            above 0 where a log-normal is asked for.
    """
    scores = np.sort(np.asarray(good_scores, dtype=np.float64))
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise CalibrationError(
            f"{count} of {scores.size} good scores are not finite numbers; no threshold can be "
            "set. Look at those pictures, and train again."
        )
    check_rate(false_reject_rate)
    used = _chosen(tail or ("rank" if method == "split" else "auto"), scores, false_reject_rate)
    limit = _by_rank if used == "rank" else _by_lognormal
    score, bound = limit(scores, false_reject_rate, confidence)
    return Calibration(
        threshold=score + headroom * abs(score),
        false_reject_rate=false_reject_rate,
        confidence=confidence,
        bound=bound,
        good_scores=tuple(float(score) for score in scores),
        images=scores.size,
        scored_by=scored_by,
        method=method,
        tail=used,
    )


def _chosen(tail: Tail | Literal["auto"], scores: NDArray[np.float64], rate: float) -> Tail:
    """Resolves `auto`: scores that a log-normal can't be fitted to leave the rank."""
    if tail != "auto":
        return tail
    fits = scores.size >= LEAST and scores[0] > 0.0
    return "lognormal" if fits and threshold_rank(scores.size, rate) >= scores.size else "rank"


def _by_rank(scores: NDArray[np.float64], rate: float, confidence: float) -> tuple[float, float]:
    """Returns the score that sets the threshold, and the bound of the exact law."""
    check_enough(scores.size, rate)
    rank = threshold_rank(scores.size, rate)
    return float(scores[rank - 1]), upper_bound(scores.size, rank, confidence)


def _by_lognormal(
    scores: NDArray[np.float64], rate: float, confidence: float
) -> tuple[float, float]:
    """Returns the threshold of a log-normal fitted to the scores, and the bound under it."""
    if scores.size < LEAST or scores[0] <= 0.0:
        lowest = f", the lowest {scores[0]:.4g}" if scores.size else ""
        raise CalibrationError(
            f"a log-normal needs at least {LEAST} good scores, all above 0; there are "
            f"{scores.size}{lowest}. Take more pictures of good parts, or set the threshold by "
            "rank."
        )
    return lognormal_threshold(scores, rate), lognormal_bound(scores.size, rate, confidence)


def check_enough(images: int, false_reject_rate: float) -> None:
    """Refuses a rate that so few images can't promise.

    Raises:
        CalibrationError: The rate is not within (0, 1), or needs more images.
    """
    check_rate(false_reject_rate)
    needed = images_needed(false_reject_rate)
    if images < needed:
        raise CalibrationError(
            f"a false-reject rate of {false_reject_rate:g} needs at least {needed} good images for "
            f"calibration; there are {images}. Take more pictures of good parts, or ask for "
            f"--false-reject-rate {_lowest_rate(images):g}."
        )


def check_rate(false_reject_rate: float) -> None:
    """Refuses a rate that is not within (0, 1).

    Raises:
        CalibrationError: It is not.
    """
    if not 0.0 < false_reject_rate < 1.0:
        raise CalibrationError(
            f"the false-reject rate must lie between 0 and 1; received {false_reject_rate}"
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
    """Returns how many of the next `parts` good parts this calibration rejects, at most.

    With its confidence; an estimate where `calibration.estimated`.
    """
    if calibration.tail == "lognormal":
        return round(parts * calibration.bound)
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
    value: float,
    calibration: Calibration | None,
    heatmap: NDArray[np.float32] | None = None,
    heads: dict[str, float] | None = None,
) -> Score:
    """Returns a score with what is needed to judge it; without a threshold if there is none."""
    heads = heads or {}
    if calibration is None:
        return Score(value, None, None, heatmap=heatmap, heads=heads)
    percentile = good_percentile(calibration.good_scores, value) if value == value else None
    lowest = calibration.lowest_plausible
    return Score(value, calibration.threshold, percentile, lowest, heatmap, heads)


def describe(calibration: Calibration) -> str:
    """Says what the threshold promises, or is estimated to do, and what would promise more."""
    if calibration.estimated:
        return _described_estimate(calibration)
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


def _described_estimate(calibration: Calibration) -> str:
    rate, confidence = calibration.false_reject_rate, calibration.confidence
    each = (
        "out-of-fold scores of good images (each scored by a model that was trained without it)"
        if calibration.method == "out_of_fold"
        else "scores of good images"
    )
    how = "a log-normal fitted to them" if calibration.tail == "lognormal" else "their rank"
    return (
        f"Threshold {calibration.threshold:.4g} from {calibration.images} {each}, by {how}: it is "
        f"estimated that {rate:.2%} of good parts are rejected on average, and in the long run, "
        f"with {confidence:.0%} confidence, no more than {calibration.bound:.2%}. These are "
        "estimates: `differnet calibrate` with new pictures of good parts gives a threshold with "
        f"a promise (at least {images_needed(rate)} pictures)."
    )
