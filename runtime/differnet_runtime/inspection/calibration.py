"""The threshold, from the scores of good parts only, with what it promises.

Split conformal prediction: of n scores that training never saw, the k-th smallest with
k = ceil((n + 1) (1 - rate)) is exceeded by a new good part with probability at most `rate`
(Vovk et al. 2005, Algorithmic Learning in a Random World). What one calibration promises is
said twice, with a confidence. Of the next m good parts, the number above the threshold follows
BetaBinomial(m, n + 1 - k, k), so its quantile is a promise that can be counted. In the long
run, the share of good parts above it follows Beta(n + 1 - k, k). Ties only lower both.

Scores that models of other folds gave (`out_of_fold`) are not those of the finished model, so the
same figures are estimates there, and are called so. These scores depend on each other, since each
image trains the models that judge the others: they tell no more than 1 / `DEPENDENCE` as many
independent ones (Nadeau and Bengio 2003, Inference for the Generalization Error: the variance of a
mean over J splits grows from 1 / J to 1 / J + test size / training size).

Where scores are few, the rank's score is one of the very highest and varies much from one draw of
parts to another. There, a log-normal may set the threshold: the prediction quantile of normal
theory for the scores' logarithms. Of n scores with mean m and standard deviation s, a new one
exceeds m + t s sqrt(1 + 1/n) with probability `rate`, where t is Student's quantile at 1 - rate
with n - 1 degrees of freedom (Hahn and Meeker 1991, Statistical Intervals, section 4.7). It is
right as far as the logarithms are normal. Student's distribution is computed with the regularised
incomplete beta function's continued fraction (Press et al. 2007, Numerical Recipes, section 6.4):
the runtime does without scipy.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..model_file.metadata import Calibration, Method, Tail

DEFAULT_FALSE_REJECT_RATE = 0.05
CONFIDENCE = 0.95
BATCH = 1000
"""Good parts that the printed promise speaks of."""
HEADROOM = 1e-4
"""The threshold lies this share above the score that sets it, so that rounding in another backend
does not turn the verdict of that very picture. It only lowers the false-reject rate."""
DEPENDENCE = 2.25
"""So many out-of-fold scores tell as much as one alone would: 1 + K / (K - 1) for K = 5 folds."""
LEAST = 3
"""The fewest scores that a log-normal can be fitted to."""
ENOUGH = 100
"""From so many scores on, `auto` takes the rank: the tail of the scores is not quite log-normal."""
ABSURD = 1000
"""A threshold above this many times the median of the good scores is refused."""
_TINY, _CLOSE, _TERMS = 1e-300, 1e-15, 500
_LARGEST = 700.0
"""The exponential of more overflows; such a threshold is refused as absurd."""
_STEPS = 400
"""Intervals of Simpson's rule; even."""


def calibrate(
    good_scores: Sequence[float],
    false_reject_rate: float = DEFAULT_FALSE_REJECT_RATE,
    *,
    confidence: float = CONFIDENCE,
    scored_by: str,
    headroom: float = HEADROOM,
    method: Method = "split",
    tail: Tail | Literal["auto"] | None = None,
    rejected: int = 0,
) -> Calibration:
    """Chooses the threshold for a wanted false-reject rate.

    Args:
        good_scores: Scores of good parts; of each, by a model whose training and early stopping
            did not see it.
        false_reject_rate: Share of good parts that may be rejected, on average.
        confidence: For the printed bound.
        scored_by: Source of the scores: `torch` or the name of a backend.
        headroom: See `HEADROOM`; the error of FP16, where that is greater.
        method: `split` where one model gave all scores, `out_of_fold` where those of folds did.
        tail: `rank`; `lognormal`; or `auto`, which takes the log-normal for fewer than `ENOUGH`
            scores, or where the rank would be the greatest score or beyond. None is `rank` for
            `split`, and `auto` for `out_of_fold`.
        rejected: Number of rejected parts without a label, which may be good and then score higher
            than all of these; see `metadata.Calibration`.

    Returns:
        Threshold, bound and the sorted scores.

    Raises:
        CalibrationError: Too few scores for the rate, scores that are not finite, or that are not
            above 0 where a log-normal is asked for; more rejected parts than the rate allows; or an
            absurd threshold.
    """
    scores = np.sort(np.asarray(good_scores, dtype=np.float64))
    if count := int((~np.isfinite(scores)).sum()):
        raise CalibrationError(
            f"{count} of {scores.size} good scores are not finite numbers; no threshold can be "
            "set. Look at those pictures, and train again."
        )
    check_rate(false_reject_rate)
    used = _chosen(tail or ("rank" if method == "split" else "auto"), scores, false_reject_rate)
    dependence = 1.0 if method == "split" else DEPENDENCE
    score, bound = (
        _by_rank(scores, false_reject_rate, confidence, rejected, dependence)
        if used == "rank"
        else _by_lognormal(scores, false_reject_rate, confidence, dependence)
    )
    threshold = score + headroom * abs(score)
    _refuse_absurd(scores, threshold)
    return Calibration(
        threshold=threshold,
        false_reject_rate=false_reject_rate,
        confidence=confidence,
        bound=bound,
        good_scores=tuple(float(score) for score in scores),
        images=scores.size + rejected,
        scored_by=scored_by,
        method=method,
        tail=used,
        rejected=rejected,
    )


def _refuse_absurd(scores: NDArray[np.float64], threshold: float) -> None:
    """Refuses a threshold below which nearly everything would be good."""
    median = float(np.median(scores))
    if scores[0] > 0.0 and not threshold <= ABSURD * median:
        raise CalibrationError(
            f"the threshold would be {threshold:.3g}, though half of the good pictures score below "
            f"{median:.3g}: a part {ABSURD:,} times as unusual as a usual one would still be good. "
            "Look at the good pictures: some may show no part, hardly any may differ, or they are "
            "too few for this false-reject rate."
        )


def _chosen(tail: Tail | Literal["auto"], scores: NDArray[np.float64], rate: float) -> Tail:
    """Resolves `auto`: scores that a log-normal can't be fitted to leave the rank."""
    if tail != "auto":
        return tail
    few = scores.size < ENOUGH or threshold_rank(scores.size, rate) >= scores.size
    return "lognormal" if few and scores.size >= LEAST and scores[0] > 0.0 else "rank"


def _by_rank(
    scores: NDArray[np.float64], rate: float, confidence: float, rejected: int, dependence: float
) -> tuple[float, float]:
    """Returns the score that sets the threshold, and the bound of the exact law."""
    parts = scores.size + rejected
    check_enough(parts, rate)
    rank = threshold_rank(parts, rate)
    if rank > scores.size:
        lowest = math.ceil(1e4 * (1.0 - scores.size / (parts + 1))) / 1e4
        raise CalibrationError(
            f"{rejected} of {parts} parts were rejected and have no label: more than a "
            f"false-reject rate of {rate:g} allows, if they were good. Label them good or defect, "
            f"calibrate from pictures (--images), or ask for --false-reject-rate {lowest:g}."
        )
    return float(scores[rank - 1]), upper_bound(parts, rank, confidence, dependence)


def _by_lognormal(
    scores: NDArray[np.float64], rate: float, confidence: float, dependence: float
) -> tuple[float, float]:
    """Returns the threshold of a log-normal fitted to the scores, and the bound under it."""
    if scores.size < LEAST or scores[0] <= 0.0:
        lowest = f", the lowest {scores[0]:.4g}" if scores.size else ""
        raise CalibrationError(
            f"a log-normal needs at least {LEAST} good scores, all above 0; there are "
            f"{scores.size}{lowest}. Take more pictures of good parts, or set the threshold by "
            "rank."
        )
    count = max(scores.size / dependence, 2.0)
    bound = max(rate, lognormal_bound(count, rate, confidence))
    return lognormal_threshold(scores, rate, count), bound


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
            f"--false-reject-rate {math.ceil(1e4 / (images + 1)) / 1e4:g}."
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


def threshold_rank(images: int, false_reject_rate: float) -> int:
    """Returns k: the k-th smallest of the calibration scores sets the threshold."""
    return math.ceil(round((images + 1) * (1.0 - false_reject_rate), 9))


def promised_rejects(calibration: Calibration, parts: int = BATCH) -> int:
    """Returns how many of the next `parts` good parts this calibration rejects, at most.

    With its confidence; an estimate where `calibration.estimated`.
    """
    if calibration.estimated:
        return round(parts * calibration.bound)
    rank = threshold_rank(calibration.images, calibration.false_reject_rate)
    return batch_bound(calibration.images, rank, parts, calibration.confidence)


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
    if calibration.rejected:
        text += (
            f" {calibration.rejected} of the {calibration.images} were rejected and have no label: "
            "they count as good parts above the threshold, so it is too high rather than too low."
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


def batch_bound(images: int, rank: int, parts: int, confidence: float) -> int:
    """Returns how many of the next `parts` good parts score above the threshold, at most.

    The exact `confidence` quantile of BetaBinomial(parts, images + 1 - rank, rank), in whole
    numbers: of all orders in which the new scores and the old ones can lie, those with j new
    ones above the `rank`-th old one are C(j + images - rank, j) C(parts - j + rank - 1, parts - j).

    Args:
        images: Number of calibration scores.
        rank: Rank of the score that sets the threshold; the smallest score has rank 1.
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


def upper_bound(images: int, rank: int, confidence: float, dependence: float = 1.0) -> float:
    """Returns the share of good parts above the `rank`-th of `images` scores, bounded from above.

    The `confidence` quantile of Beta(images + 1 - rank, rank), both divided by `dependence`.
    """
    above, below = (images + 1 - rank) / dependence, rank / dependence
    return _bisected(
        lambda share: _incomplete_beta(share, 1.0 - share, above, below) < confidence, 0.0, 1.0, 60
    )


def binomial_cdf(most: int, trials: int, probability: float) -> float:
    """Returns P(X <= most) for X ~ Binomial(trials, probability)."""
    if not 0.0 < probability < 1.0:
        return float(probability <= 0.0 or most >= trials)
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
        trials: Number of independent trials, n.
        probability: Chance that one of them succeeds, 0 to 1.
        confidence: Probability of staying at or below the count, within (0, 1).
    """
    counts = range(trials + 1)
    return bisect_left(counts, confidence, key=lambda most: binomial_cdf(most, trials, probability))


def lognormal_threshold(scores: NDArray[np.float64], rate: float, count: float) -> float:
    """Returns the value that a new good part exceeds with probability `rate`.

    Args:
        scores: `(n,) float64` of good parts, all above 0, n at least `LEAST`.
        rate: False-reject rate, within (0, 1).
        count: Number of independent scores that tell as much, at least 2.
    """
    logarithms = np.log(scores)
    spread = float(np.std(logarithms, ddof=1))
    found = float(np.mean(logarithms)) + reach(count, rate) * spread
    return math.exp(min(found, _LARGEST))


def reach(count: float, rate: float) -> float:
    """Returns how many standard deviations above the mean of `count` scores the threshold lies."""
    return student_quantile(1.0 - rate, count - 1) * math.sqrt(1.0 + 1.0 / count)


@lru_cache(maxsize=64)
def lognormal_bound(count: float, rate: float, confidence: float) -> float:
    """Returns an upper bound of the share of good parts above the threshold.

    It holds with this confidence over sets of `count` scores, if their logarithms are normal.
    The share of a threshold k standard deviations above the mean exceeds 1 - Phi(z) with
    probability E[Phi(sqrt(count) (z - k S))], S^2 being chi-square over its degrees of freedom.
    """
    k, root, normal = reach(count, rate), math.sqrt(count), NormalDist()
    spreads = _spreads(count - 1)

    def holds(z: float) -> bool:
        exceeding = math.fsum(
            weight * normal.cdf(root * (z - k * ratio)) for ratio, weight in spreads
        )
        return exceeding <= 1.0 - confidence

    return normal.cdf(-_bisected(holds, -40.0, 40.0, 80))


def _spreads(freedom: float) -> list[tuple[float, float]]:
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
    return [(ratio, weight / total) for ratio, weight in zip(ratios, weights, strict=True)]


@lru_cache(maxsize=64)
def student_quantile(probability: float, freedom: float) -> float:
    """Returns the value that Student's t stays below with this probability, within (0, 1)."""
    if probability < 0.5:
        return -student_quantile(1.0 - probability, freedom)
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < probability:
        low, high = high, 2.0 * high
    return _bisected(lambda value: student_cdf(value, freedom) < probability, low, high)


def _bisected(
    is_low: Callable[[float], bool], low: float, high: float, most: int | None = None
) -> float:
    """Returns the least value found that is not low.

    Args:
        is_low: Whether a value is too low; monotone.
        low: A value that is too low.
        high: A value that is not.
        most: Most halvings; None halves until no number lies between.
    """
    while (middle := (low + high) / 2.0) not in (low, high) and most != 0:
        low, high = (middle, high) if is_low(middle) else (low, middle)
        most = None if most is None else most - 1
    return high


def student_cdf(value: float, freedom: float) -> float:
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
