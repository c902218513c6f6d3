"""A score to a verdict. GOOD needs a finite score and a threshold; all else is not good."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .records import Decision, Score, Verdict
from .sentences import sentence


def decide(score: Score) -> Decision:
    """Judges a score against its threshold.

    Args:
        score: Raw score with the model's threshold.

    Returns:
        DEFECT above the threshold, GOOD at or below it; NO_DECISION, with the reason, for a picture
        that can't be trusted, a score that is not finite or lies far below every good part's, or a
        model without a finite threshold. (NaN > threshold is False: without that check a gross
        defect would pass. A covered lens can score lower than any part.)
    """
    if score.refused is not None:
        return score.refused
    if not score.finite:
        return Decision(
            Verdict.NO_DECISION, sentence("score_not_finite", score=score.value), "not_finite"
        )
    if not all(map(math.isfinite, score.heads.values())):
        return Decision(
            Verdict.NO_DECISION,
            sentence("heads_not_finite", scores=score.heads),
            "not_finite",
        )
    if score.threshold is None:
        return Decision(
            Verdict.NO_DECISION,
            sentence("no_threshold"),
            "no_threshold",
        )
    if not math.isfinite(score.threshold):
        return Decision(
            Verdict.NO_DECISION,
            sentence("threshold_not_finite", threshold=score.threshold),
            "no_threshold",
        )
    if score.lowest is not None and not score.value >= score.lowest:
        return Decision(
            Verdict.NO_DECISION,
            sentence("score_implausible", score=score.value, least=score.lowest),
            "implausible",
        )
    return Decision(Verdict.DEFECT if score.value > score.threshold else Verdict.GOOD)


@dataclass(frozen=True)
class Result(Score):
    """What a detector says of a picture: its score and the verdict.

    `value` is infinite where the picture was not scored, so that whoever compares it with the
    threshold rejects the part.
    """

    @classmethod
    def of(cls, score: Score) -> Result:
        """Returns the result of a score."""
        return cls(**vars(score))

    @property
    def decision(self) -> Decision:
        """Verdict and, for NO_DECISION, its code and reason."""
        return decide(self)

    @property
    def verdict(self) -> Verdict:
        """GOOD, DEFECT or NO_DECISION."""
        return self.decision.verdict

    @property
    def code(self) -> str | None:
        """Why there is no decision, for programs; None for GOOD and DEFECT."""
        return self.decision.code

    @property
    def reason(self) -> str | None:
        """Why there is no decision, in words; None for GOOD and DEFECT."""
        return self.decision.reason
