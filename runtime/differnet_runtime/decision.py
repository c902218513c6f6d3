"""A score to a verdict. GOOD needs a finite score and a threshold; all else is not good."""

from __future__ import annotations

from .records import Decision, Score, Verdict


def decide(score: Score) -> Decision:
    """Judges a score against its threshold.

    Args:
        score: Raw score with the model's threshold.

    Returns:
        DEFECT above the threshold, GOOD at or below it; NO_DECISION, with the reason, for a score
        that is not finite or a model without a threshold. (NaN > threshold is False: without
        that check a gross defect would pass.)
    """
    if not score.finite:
        return Decision(Verdict.NO_DECISION, f"the score is not finite ({score.value})")
    if score.threshold is None:
        return Decision(
            Verdict.NO_DECISION, "the model has no threshold; run `differnet calibrate`"
        )
    return Decision(Verdict.DEFECT if score.value > score.threshold else Verdict.GOOD)
