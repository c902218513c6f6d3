"""Records how a model was trained, and how its exported graph compares with it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, field_validator

from .contract import Part
from .names import Shown

_HASH_BYTES = 6
"""Of a picture's SHA-256: among 10,000 pictures a new one is taken for one of them once in 3e10."""


class Provenance(Part):
    """How a model was trained.

    Args:
        recipe: Name of the settings.
        seed: Of folds, weights, order and noise.
        images: Number of pictures that the model was fitted on.
        epochs: Epochs of training.
        data_sha256: Hash of settings and pictures.
        created: When, ISO 8601.
        versions: Version of each package used in training, by its name.
        pictures: The first 6 bytes of the SHA-256 of each picture's file, sorted and joined, in
            base64; empty where they are not known, as in imported models and older files.
    """

    recipe: Shown
    seed: int
    images: int
    epochs: int
    data_sha256: Shown
    created: Shown
    versions: dict[Shown, Shown]
    pictures: str = ""

    @field_validator("pictures")
    @classmethod
    def _whole_hashes(cls, packed: str) -> str:
        try:
            whole = len(base64.b64decode(packed, validate=True)) % _HASH_BYTES == 0
        except ValueError:
            whole = False
        if not whole:
            raise ValueError("the hashes of the training pictures are damaged")
        return packed

    def trained_on(self, digests: Iterable[str]) -> set[str]:
        """Returns those of the SHA-256 digests (hexadecimal) that are of training pictures."""
        known = self._known
        return {digest for digest in digests if _shortened(digest) in known}

    def shares_pictures(self, other: Provenance) -> bool:
        """Whether both were trained on some of the same pictures, as far as that is recorded."""
        return not self._known.isdisjoint(other._known)

    @property
    def _known(self) -> set[bytes]:
        packed = base64.b64decode(self.pictures)
        return {packed[k : k + _HASH_BYTES] for k in range(0, len(packed), _HASH_BYTES)}


def packed_hashes(digests: Iterable[str]) -> str:
    """Returns the SHA-256 digests (hexadecimal) of pictures as `Provenance.pictures` has them."""
    return base64.b64encode(b"".join(sorted(map(_shortened, digests)))).decode()


def _shortened(digest: str) -> bytes:
    return bytes.fromhex(digest)[:_HASH_BYTES]


class HalfPrecision(Part):
    """How FP16 changed the model's weights and scores, on the frames that export ran.

    Args:
        weights: How many weights are stored in FP16.
        subnormal_share: Share of these, zeros not counted, too small for FP16's full precision.
        median_relative_error: Median error of the scores, emulated FP16 against FP32.
        greatest_relative_error: Greatest error of the scores, likewise.
    """

    weights: int
    subnormal_share: float
    median_relative_error: float
    greatest_relative_error: float


class Int8(Part):
    """How INT8 changed the scores of good pictures that gave neither ranges nor the correction.

    Scores are those of the graph in the file, its other parts in emulated FP16.

    Args:
        convolutions: How many of the extractor's convolutions are in INT8.
        left_in_float: How many of the first ones are not, depthwise ones not counted.
        share: Share of the extractor's multiplications that are in INT8.
        pictures: How many pictures were compared.
        shift: Median of the scores divided by those of the FP32 graph; the threshold takes part in
            it.
        median_relative_error: Median error of the scores against the FP32 graph's times `shift`.
        greatest_relative_error: Greatest error, likewise.
        flips: How many of these pictures one graph calls good and the other a defect, each at its
            own threshold; None without a threshold.
    """

    convolutions: Annotated[int, Field(ge=1)]
    left_in_float: Annotated[int, Field(ge=0)]
    share: Annotated[float, Field(ge=0, le=1)]
    pictures: Annotated[int, Field(ge=1)]
    shift: Annotated[float, Field(gt=0)]
    median_relative_error: float
    greatest_relative_error: float
    flips: int | None = None


class Verification(Part):
    """Compares the exported graph with the trained model, on the frames that export ran.

    Args:
        frames: Number of frames: golden and extreme ones, and the available calibration pictures.
        greatest_relative_difference: Greatest difference of the FP32 graph's scores from torch's.
        golden_scores: Scores that the graph, as stored in the file, gives the golden frames.
        half: Effects of FP16; only in an FP16 file.
        int8: Effects of INT8; only in an INT8 file.
    """

    frames: int
    greatest_relative_difference: float
    golden_scores: Annotated[tuple[float, ...], Field(min_length=1, max_length=64)]
    half: HalfPrecision | None = None
    int8: Int8 | None = None
