"""Which painted defects a model finds: the record in its metadata, and that record in words."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from ..sentences import sentence
from .contract import StrictModel

DefectKind = Literal["dark_spot", "bright_spot", "scratch", "missing_piece", "stain", "blur"]
JudgedBy = Literal["saved", "fold"]
DEFECT_KINDS: tuple[DefectKind, ...] = get_args(DefectKind)

STALE = 0.01
"""The limits hold for one threshold; a relative change by more than this is mentioned."""


class DetectionLimit(StrictModel):
    """The size from which on painted defects of one kind and contrast are found.

    Args:
        kind: Kind of defect that was painted; see `differnet_training.limit_search`.
        contrast: Difference from the surroundings, in grey levels of 255; None for `blur`.
        size: Diameter (a scratch's length) from which on the wanted share is found, in pixels of
            the model's input; None where it is not reached at any size painted.
        picture_size: The same in pixels of the camera's picture.
        painted: Number of pictures painted at each size; 0 where the good pictures are too
            dark or too bright for it.
    """

    kind: DefectKind
    contrast: Annotated[int, Field(ge=1, le=255)] | None
    size: Annotated[int, Field(ge=1)] | None
    picture_size: Annotated[int, Field(ge=1)] | None
    painted: Annotated[int, Field(ge=0)]


class DetectionLimits(StrictModel):
    """What a model finds of defects painted on good pictures that the judging model had not seen.

    Args:
        threshold: The threshold that they were judged by.
        share: Share of the painted defects that must be found, on each line of `limits`.
        judged_by: `saved` where the saved model had not seen these pictures; `fold` where a
            model of the same heads judged them that was fitted without their fold.
        pictures: Number of different good pictures that were painted.
        picture_scale: Pixels of the camera's picture for each pixel of the input, the geometric
            mean of both directions.
        largest: Greatest size painted, in pixels of the input.
        sensible: Greatest size that counts for `usable`, in pixels of the input.
        limits: For each kind and contrast.
        usable: Whether spots, scratches or missing pieces are found up to the sensible size.
    """

    threshold: float
    share: Annotated[float, Field(gt=0, lt=1)]
    judged_by: JudgedBy
    pictures: Annotated[int, Field(ge=1)]
    picture_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    largest: Annotated[int, Field(ge=1)]
    sensible: Annotated[int, Field(ge=1)]
    limits: tuple[DetectionLimit, ...]
    usable: bool

    @property
    def largest_in_picture(self) -> int:
        """Greatest size painted, in pixels of the camera's picture."""
        return self.in_picture(self.largest)

    def in_picture(self, size: float) -> int:
        """Converts a size in pixels of the input to pixels of the camera's picture."""
        return max(1, round(size * self.picture_scale))

    def of(self, kind: DefectKind) -> tuple[DetectionLimit, ...]:
        """Returns the limits of one kind, in ascending contrast."""
        return tuple(limit for limit in self.limits if limit.kind == kind)

    @property
    def kinds(self) -> tuple[DefectKind, ...]:
        """The kinds that were painted."""
        return tuple(kind for kind in DEFECT_KINDS if self.of(kind))


DEFECT_WORDS: dict[DefectKind, str] = {
    "dark_spot": "dark spot",
    "bright_spot": "bright spot",
    "scratch": "scratch",
    "missing_piece": "missing piece",
    "stain": "stain",
    "blur": "blurred area",
}


def sentences(limits: DetectionLimits) -> dict[DefectKind, str]:
    """Says for each kind from which size on it is found, in pixels of the camera's picture."""
    return {kind: _sentence(limits, kind) for kind in limits.kinds}


def said(limits: DetectionLimits) -> str:
    """Returns all of it as lines of text; the last one is the warning, where there is one."""
    lines = [basis(limits), *(f"  {text}" for text in sentences(limits).values())]
    return "\n".join([*lines, *filter(None, [warning(limits)])])


def brief(limits: DetectionLimits) -> str:
    """Returns the detection limits in one line, in pixels of the camera's picture."""
    if not limits.usable:
        return sentence("limit_none")
    found, missed = [], []
    for kind in limits.kinds:
        painted, first = _first_found(limits, kind)
        if first is not None:
            code = f"limit_{kind}" if first.contrast is None else f"limit_{kind}_at"
            found.append(sentence(code, size=first.picture_size, contrast=first.contrast))
        elif painted:
            missed.append(sentence(f"limit_{kind}_missed"))
    return ", ".join([*found, *missed])


def basis(limits: DetectionLimits) -> str:
    """Says how the limits were measured, so that nobody takes them for real defects."""
    judge = (
        "the model had not seen"
        if limits.judged_by == "saved"
        else "the judging model (fitted without them) had not seen"
    )
    return (
        f"Measured with defects painted by code on {limits.pictures} good pictures that {judge}. "
        f"From the stated size on, {limits.share:.0%} of them are found at the threshold "
        f"{limits.threshold:.4g}. Sizes are in pixels of the camera's picture, and one pixel of "
        f"the model's input is {limits.picture_scale:.3g} of them; contrast is in grey levels of "
        "255. Real defects of the same size can be easier or harder to find."
    )


def warning(limits: DetectionLimits) -> str | None:
    """Says that the model must not be used, where it finds nothing of a sensible size."""
    if limits.usable:
        return None
    size = limits.in_picture(limits.sensible)
    strongest = max((limit.contrast or 0 for limit in limits.limits), default=0)
    return (
        f"Do not use this model: it misses more than {1 - limits.share:.0%} of the painted spots, "
        f"scratches and missing pieces of up to {size} pixels (1 % of the picture's area), even "
        f"at contrast {strongest}. The good pictures may differ too much from one another: take "
        "parts of one kind, in the same position and light, or cut out the part with --roi."
    )


def outdated(limits: DetectionLimits, threshold: float) -> str | None:
    """Says that the threshold was changed since, where it was."""
    if abs(threshold - limits.threshold) <= STALE * abs(limits.threshold):
        return None
    return (
        f"measured at the threshold {limits.threshold:.4g}, which is now {threshold:.4g}: a higher "
        "threshold finds less, a lower one more"
    )


def _first_found(
    limits: DetectionLimits, kind: DefectKind
) -> tuple[list[DetectionLimit], DetectionLimit | None]:
    """Returns a kind's limits that were painted, and the first of them that is found at a size."""
    painted = [limit for limit in limits.of(kind) if limit.painted]
    return painted, next((limit for limit in painted if limit.size is not None), None)


def _sentence(limits: DetectionLimits, kind: DefectKind) -> str:
    (painted, first), name = _first_found(limits, kind), DEFECT_WORDS[kind]
    if not painted:
        why = "bright" if kind == "bright_spot" else "dark"
        return f"A {name} could not be painted: the good pictures are too {why} for it."
    if first is None:
        even = "" if painted[-1].contrast is None else f", even at contrast {painted[-1].contrast}"
        return f"A {name} is not found up to {limits.largest_in_picture} pixels{even}."
    at = "" if first.contrast is None else f" at contrast {first.contrast}"
    text = f"A {name} is found from {first.picture_size} pixels on{at}"
    smaller = first
    for limit in painted:
        if limit.size is not None and smaller.size is not None and limit.size < smaller.size:
            text += f", from {limit.picture_size} at contrast {limit.contrast}"
            smaller = limit
    missed = [limit for limit in painted if limit.size is None]
    return text + (f"; at contrast {missed[-1].contrast} it is not found" if missed else "") + "."
