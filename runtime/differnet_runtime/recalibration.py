"""What a calibrated model's own threshold says of the scores that are to set a new one.

If they are of good parts like those before, the number above the present threshold follows the law
that the threshold was given with (see `calibration`). Many more are no chance: the parts are
defects, or light, lens or parts have changed, which only the user can tell.
"""

from __future__ import annotations

from collections.abc import Mapping

from .calibration import threshold_rank
from .errors import CalibrationError
from .metadata import Calibration
from .order_statistics import batch_bound, binomial_quantile

CONFIDENCE = 0.99
"""Of a hundred sets of good parts like those before, one is questioned."""

_NAMED = 5


def check_share(scores: Mapping[str, float], present: Calibration | None, what: str) -> None:
    """Refuses scores of which more are above the present threshold than chance explains.

    Args:
        scores: Of parts that are said to be good, by the name of the picture or the event.
        present: The model's calibration; without one, nothing can be told.
        what: What the names are of, in the plural.

    Raises:
        CalibrationError: Too many are above; names the highest.
    """
    if present is None:
        return
    above = [name for name, score in scores.items() if score > present.threshold]
    most = most_by_chance(present, len(scores))
    if len(above) <= most:
        return
    above.sort(key=lambda name: -scores[name])
    raise CalibrationError(
        f"{len(above)} of {len(scores)} {what} are above the present threshold of "
        f"{present.threshold:.4g}; by chance at most {most}: are these good parts? The highest: "
        f"{', '.join(above[:_NAMED])}. If all are good, since light, lens or parts have changed, "
        "set the new threshold with --force."
    )


def most_by_chance(present: Calibration, parts: int) -> int:
    """Returns how many of so many good parts are above the threshold, with `CONFIDENCE` at most.

    A threshold by rank has the exact law (beta-binomial: the binomial law, with what few
    calibration pictures leave uncertain). By a log-normal it has the binomial law at its bound.
    """
    if present.tail == "lognormal":
        return binomial_quantile(parts, present.bound, CONFIDENCE)
    rank = min(threshold_rank(present.images, present.false_reject_rate), present.images)
    return batch_bound(present.images, rank, parts, CONFIDENCE)
