import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import beta, betabinom, lognorm

from differnet_runtime.errors import CalibrationError
from differnet_runtime.inspection.calibration import (
    BATCH,
    HEADROOM,
    batch_bound,
    calibrate,
    check_enough,
    describe,
    images_for_confidence,
    images_needed,
    lognormal_bound,
    promised_rejects,
    threshold_rank,
    upper_bound,
)
from differnet_runtime.inspection.verdict import judged
from differnet_runtime.model_file.metadata import Calibration, Tail


def calibrated(scores, rate: float = 0.05):
    return calibrate(scores, rate, scored_by="torch")


@pytest.mark.parametrize(
    ("rate", "images"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.5, 1), (0.001, 999)]
)
def test_images_needed_on_average(rate: float, images: int) -> None:
    assert images_needed(rate) == images
    calibrated(range(images), rate)
    with pytest.raises(CalibrationError, match=rf"at least {images} good images"):
        check_enough(images - 1, rate)


def test_images_for_confidence() -> None:
    assert images_for_confidence(0.01) == 299
    for rate in (0.01, 0.05, 0.2):
        enough = images_for_confidence(rate)
        assert upper_bound(enough, enough, 0.95) <= rate < upper_bound(enough - 1, enough - 1, 0.95)


@given(st.integers(1, 400), st.data())
def test_the_bound_is_the_beta_quantile(images: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, images))
    confidence = data.draw(st.sampled_from([0.8, 0.95, 0.99]))
    expected = beta.ppf(confidence, images + 1 - rank, rank)
    assert upper_bound(images, rank, confidence) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_the_bound_for_a_batch_is_the_beta_binomial_quantile(
    images: int, parts: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, images))
    confidence = data.draw(st.sampled_from([0.8, 0.95, 0.99]))
    most = batch_bound(images, rank, parts, confidence)
    law = betabinom(parts, images + 1 - rank, rank)
    assert law.cdf(most) >= confidence - 1e-9
    assert most == 0 or law.cdf(most - 1) < confidence + 1e-9


def test_the_bound_for_a_batch_counts_every_order() -> None:
    """Of all places that new scores can take among the old ones, the bound holds in enough."""
    images, rank, parts, confidence = 6, 5, 4, 0.8
    threshold_places = [
        sorted(set(range(images + parts)) - set(new))[rank - 1]
        for new in combinations(range(images + parts), parts)
    ]
    above = [
        sum(place > threshold for place in new)
        for new, threshold in zip(
            combinations(range(images + parts), parts), threshold_places, strict=True
        )
    ]
    most = batch_bound(images, rank, parts, confidence)
    assert np.mean(np.array(above) <= most) >= confidence
    assert np.mean(np.array(above) <= most - 1) < confidence


@pytest.mark.parametrize(("images", "parts", "most"), [(19, 1, 0), (18, 1, 1), (399, 21, 0)])
def test_the_bound_for_a_batch_is_exact_where_rounding_would_tip_it(
    images: int, parts: int, most: int
) -> None:
    """19 of 20 is 0.95 exactly, and 399 of 420 too."""
    assert batch_bound(images, images, parts, 0.95) == most


def test_the_batch_outgrows_the_long_run_by_its_own_scatter() -> None:
    rank = threshold_rank(100, 0.05)
    long_run = upper_bound(100, rank, 0.95)
    shares = [batch_bound(100, rank, parts, 0.95) / parts for parts in (20, 200, 2000, 20000)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(long_run, rel=5e-3)


@given(st.integers(19, 500), st.floats(0.05, 0.6))
def test_the_threshold_is_a_score_with_few_enough_above_it(images: int, rate: float) -> None:
    scores = np.random.RandomState(images).permutation(images).astype(float)
    result = calibrated(scores, rate)
    above = int((scores > result.threshold).sum())
    just_below = result.threshold / (1 + HEADROOM)
    assert np.isclose(scores, just_below, rtol=1e-12).any()
    assert (above + 1) / (images + 1) <= rate + 1e-9
    assert (above + 2) / (images + 1) > rate - 1e-9
    assert result.good_scores == tuple(sorted(scores))


@pytest.mark.parametrize(
    ("images", "rate"), [(19, 0.05), (60, 0.05), (99, 0.01), (300, 0.1), (37, 0.2)]
)
def test_the_promise_holds_over_many_calibrations(images: int, rate: float) -> None:
    """With uniform scores the true share of good parts above a threshold t is 1 - t."""
    trials = 1500
    scores = np.random.RandomState(0).random_sample((trials, images))
    results = [calibrated(row, rate) for row in scores]
    true_rates = np.array([1.0 - result.threshold for result in results])
    bound = results[0].bound
    assert (true_rates > bound).mean() <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)
    assert true_rates.mean() <= rate + 4 * true_rates.std() / math.sqrt(trials)
    rank = int(np.searchsorted(results[0].good_scores, results[0].threshold))
    assert beta.sf(bound, images + 1 - rank, rank) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(("images", "parts"), [(19, 20), (60, 300), (200, 188)])
def test_the_promise_for_a_batch_holds_over_many_calibrations(images: int, parts: int) -> None:
    trials, kept = 1500, 0
    random = np.random.RandomState(1)
    for _ in range(trials):
        calibration = calibrated(random.standard_normal(images) ** 2, 0.05)
        rejected = int((random.standard_normal(parts) ** 2 > calibration.threshold).sum())
        kept += rejected <= promised_rejects(calibration, parts)
    assert kept / trials >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / trials)


@given(st.integers(1, 3000), st.floats(1e-5, 0.4))
def test_the_rate_that_is_offered_can_be_had(images: int, rate: float) -> None:
    try:
        check_enough(images, rate)
    except CalibrationError as error:
        offered = float(str(error).rsplit("--false-reject-rate ", 1)[1].rstrip("."))
        check_enough(images, offered)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_rate_outside_0_and_1_is_refused(rate: float) -> None:
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        calibrated(range(500), rate)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(CalibrationError, match="1 of 31 good scores are not finite"):
        calibrated([*range(30), wrong])


def test_no_pictures_at_all() -> None:
    with pytest.raises(CalibrationError, match="there are 0"):
        calibrated([])


def test_good_percentile_counts_the_scores_at_most_as_high() -> None:
    good_scores = (1.0, 2.0, 2.0, 4.0)
    calibration = calibrated(range(30)).model_copy(update={"good_scores": good_scores})
    scores = (0.5, 1.0, 2.0, 3.9, 4.0, 99.0)
    found = [judged(score, calibration).good_percentile for score in scores]
    assert found == [0.0, 25.0, 75.0, 75.0, 100.0, 100.0]


def test_the_description_says_what_more_certainty_takes() -> None:
    calibration = calibrated(range(30), 0.05)
    few = describe(calibration)
    assert "from 30 good images" in few
    assert "5.00% of good parts" in few
    assert (
        f"next 1,000 good parts, with 95% confidence at most {promised_rejects(calibration)}" in few
    )
    assert BATCH == 1000
    assert f"at most {calibration.bound:.2%}" in few
    assert "at least 59 calibration images" in few
    assert "takes at least" not in describe(calibrated(range(2000), 0.05))


def out_of_fold(scores, rate: float = 0.05, **options):
    return calibrate(scores, rate, scored_by="torch", method="out_of_fold", **options)


def test_a_split_calibration_is_by_rank_whatever_the_number_of_scores() -> None:
    found = calibrated(np.linspace(0.5, 2.0, 19))
    assert (found.method, found.tail, found.estimated) == ("split", "rank", False)
    assert found.threshold == pytest.approx(2.0 * (1 + HEADROOM))
    with pytest.raises(CalibrationError, match="at least 19 good images"):
        calibrated(np.linspace(0.5, 2.0, 18))


@pytest.mark.parametrize(
    ("count", "rate", "tail"),
    [(10, 0.05, "lognormal"), (31, 0.05, "lognormal"), (99, 0.05, "lognormal"),
     (100, 0.05, "rank"), (150, 0.05, "rank"), (150, 0.01, "lognormal")],
)  # fmt: skip
def test_few_out_of_fold_scores_take_the_log_normal(count: int, rate: float, tail: str) -> None:
    found = out_of_fold(np.linspace(0.5, 2.0, count), rate)
    assert (found.method, found.tail, found.estimated) == ("out_of_fold", tail, True)
    assert 0 < found.bound < 1
    assert found.images == count


@pytest.mark.parametrize("tail", ["rank", "lognormal"])
def test_scores_that_depend_on_each_other_bound_less(tail: Tail) -> None:
    scores = np.linspace(0.5, 2.0, 150)
    alone = calibrate(scores, 0.05, scored_by="torch", tail=tail)
    assert out_of_fold(scores, tail=tail).bound > alone.bound
    assert alone.bound == pytest.approx(
        upper_bound(150, threshold_rank(150, 0.05), 0.95)
        if tail == "rank"
        else lognormal_bound(150, 0.05, 0.95)
    )


def test_scores_that_no_log_normal_fits_keep_the_rank() -> None:
    assert out_of_fold(np.linspace(-3.0, 2.0, 31)).tail == "rank"
    with pytest.raises(CalibrationError, match="at least 19 good images"):
        out_of_fold(np.linspace(-3.0, 2.0, 5))
    with pytest.raises(CalibrationError, match=r"all above 0; there are 31, the lowest -3\."):
        out_of_fold(np.linspace(-3.0, 2.0, 31), tail="lognormal")
    with pytest.raises(CalibrationError, match="at least 3 good scores"):
        out_of_fold([1.0, 2.0], tail="lognormal")


@pytest.mark.parametrize("tail", ["rank", "lognormal"])
@pytest.mark.parametrize("method", ["split", "out_of_fold"])
def test_only_the_exact_law_is_called_a_promise(method: str, tail: str) -> None:
    scores = np.linspace(0.5, 2.0, 50)
    found = calibrate(scores, 0.05, scored_by="torch", method=method, tail=tail)
    text = describe(found)
    exact = (method, tail) == ("split", "rank")
    assert ("at most" in text) == exact
    assert ("it is estimated that 5.00% of good parts" in text) == (not exact)
    assert ("50 out-of-fold scores of good images" in text) == (method == "out_of_fold")
    assert ("a log-normal fitted to them" in text) == (tail == "lognormal")
    assert f"{found.bound:.2%}" in text


@pytest.mark.parametrize("count", [31, 150])
def test_no_good_part_of_joined_scores_is_called_implausible(count: int) -> None:
    """Joined scores are positive, and a typical good part has 1."""
    random = np.random.RandomState(count)
    for spread in (0.05, 0.2, 0.5):
        lowest = [
            out_of_fold(np.exp(spread * random.standard_normal(count))).lowest_plausible
            for _ in range(50)
        ]
        below = [lognorm(spread).cdf(max(limit, 1e-12)) for limit in lowest]
        assert np.mean(below) < 1e-4
        assert max(lowest) < 1.0


@pytest.mark.parametrize("scores", [(), (1.0, 1.1, 9.0, 1.2, 1.3)])
def test_scores_of_a_foreign_file_that_do_not_ascend_are_refused(
    calibration: Calibration, scores: tuple[float, ...]
) -> None:
    with pytest.raises(ValidationError, match="good_scores"):
        Calibration.model_validate({**calibration.model_dump(), "good_scores": scores})


def test_the_rejected_are_ranked_above_all_scores() -> None:
    """As if each had a score of its own that is higher: threshold, bound and promise are equal."""
    scores = [float(k) for k in range(1, 98)]
    known = calibrate([*scores, 500.0, 600.0, 700.0], 0.05, scored_by="torch")
    unknown = calibrate(scores, 0.05, scored_by="stored scores", rejected=3)
    assert unknown.threshold == known.threshold
    assert (unknown.bound, unknown.images) == (known.bound, known.images)
    assert promised_rejects(unknown) == promised_rejects(known)
    assert len(unknown.good_scores) == 97
    assert "3 of the 100 were rejected and have no label" in describe(unknown)


@pytest.mark.parametrize("passed", [57, 95, 940])
def test_the_rate_that_is_offered_is_the_lowest_that_the_rejected_allow(passed: int) -> None:
    scores = [float(k) for k in range(1, passed + 1)]
    rejected = passed // 15 + 3
    with pytest.raises(
        CalibrationError, match=f"{rejected} of {passed + rejected} parts"
    ) as caught:
        calibrate(scores, 0.05, scored_by="stored scores", rejected=rejected)
    offered = float(str(caught.value).split()[-1].rstrip("."))
    found = calibrate(scores, offered, scored_by="stored scores", rejected=rejected)
    assert found.threshold == pytest.approx(scores[-1], rel=1e-3)
    with pytest.raises(CalibrationError):
        calibrate(scores, offered - 2e-4, scored_by="stored scores", rejected=rejected)


@pytest.mark.parametrize("method", ["split", "out_of_fold"])
def test_an_absurd_threshold_is_refused(method: str) -> None:
    scores = [1.0 + k / 100 for k in range(20)]
    calibrate([*scores, 900.0], 0.05, scored_by="torch", method=method, tail="rank")
    with pytest.raises(
        CalibrationError, match=r"would be 1e\+12, though half of the good pictures"
    ):
        calibrate([*scores, 1e12], 0.05, scored_by="torch", method=method, tail="rank")
