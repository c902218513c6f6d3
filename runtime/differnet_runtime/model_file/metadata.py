"""What a model says of itself: input, views, extractor, flow, calibration, and how it was made.

Training writes these records to `model.json`, the exported file carries them, and the camera reads
them, so that all of them see the same pixels and views.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ..names import Shown
from .contract import InputContract, PictureSizes, StrictModel, Views, from_square
from .detection_limits import DetectionLimits

FORMAT_VERSION = 6
"""Raised whenever an older reader would misread a newer model."""

Precision = Literal["fp32", "fp16", "int8"]
ScoreKind = Literal["z2", "likelihood"]


class ExtractorSpec(StrictModel):
    """The frozen feature extractor.

    Args:
        name: `alexnet`, `efficientnet_lite0` or `timm:NAME`.
        tap: The block, or blocks, whose output is pooled; None for the network's own last map.
        channels: Channels of those feature maps together.
        scales: Divisors of the input size that are read, each by nearest neighbour.
        mean: Normalisation mean, RGB in 0..1, that the weights were trained with.
        std: Normalisation standard deviation, RGB in 0..1, likewise.
        kept: Greatest number of channels of each scale that are features, drawn by a fixed seed;
            None keeps all.
        weights_sha256: Hash of the extractor's tensors; part of the feature cache's key.
    """

    name: Shown
    tap: int | tuple[int, ...] | None
    channels: Annotated[int, Field(ge=1)]
    scales: tuple[int, ...] = (1, 2, 4)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    kept: tuple[int, ...] | None = None
    weights_sha256: Shown

    @property
    def features(self) -> int:
        """Length of the concatenated feature vector."""
        kept = self.kept or (self.channels,) * len(self.scales)
        return sum(min(count, self.channels) for count in kept)


class FlowSpec(StrictModel):
    """The normalizing flow's shape.

    Args:
        features: Length of the vectors that it maps.
        blocks: Number of coupling blocks; 0 leaves the whitening alone, a Gaussian.
        width: Number of hidden units of a subnet.
        clamp: Greatest magnitude of the log-scales.
        dropout: Dropout probability in the subnets.
        whitened: A whitening comes before the blocks.
        places: Number of windows that have a whitening of their own; 0 for one whitening.
        kernel: 1 for fully connected subnets on each vector alone; 3 for subnets of 3 x 3
            convolutions, which see the neighbouring windows.
    """

    features: Annotated[int, Field(ge=2)]
    blocks: Annotated[int, Field(ge=0)] = 8
    width: Annotated[int, Field(ge=1)] = 2048
    clamp: Annotated[float, Field(gt=0)] = 3.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    whitened: bool = False
    places: Annotated[int, Field(ge=0)] = 0
    kernel: Literal[1, 3] = 1


HeadName = Literal["whole", "coarse", "fine"]


class Head(StrictModel):
    """One judge of the picture: features on a grid of windows, a flow, and its scale.

    All heads read one pass of the extractor. With z = log(s / typical) / spread of a head's score
    s, all heads' good parts spread alike. The model's score is exp(u m), where u is the least
    spread of its heads and m = log(mean of exp(z) over the heads): close to the greatest z, and a
    little more where several heads agree. So a typical good part has about 1.

    Args:
        name: `whole` sees the picture as a whole, `coarse` and `fine` its windows.
        taps: The extractor's blocks that it reads.
        kept: Greatest number of their channels, drawn by a fixed seed; None keeps all.
        rows: Windows from top to bottom; 1 for the whole picture, whose features are the mean and
            the standard deviation of each channel.
        columns: Windows from left to right.
        detail: Subwindows per side into which the heatmap divides each window; 1 in files of
            format 5 and before.
        flow: Shape of its flow.
        epochs: Epochs of training that held-out good pictures chose; 0 leaves the Gaussian.
        typical: Geometric mean of the scores of good pictures that no part of the fit had seen.
        spread: Standard deviation of the logarithms of these scores.
    """

    name: HeadName
    taps: Annotated[tuple[int, ...], Field(min_length=1)]
    kept: Annotated[int, Field(ge=2)] | None = None
    rows: Annotated[int, Field(ge=1, le=512)] = 1
    columns: Annotated[int, Field(ge=1, le=512)] = 1
    detail: Annotated[int, Field(ge=1, le=4)] = 1
    flow: FlowSpec
    epochs: Annotated[int, Field(ge=0)] = 0
    typical: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    spread: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _windows_to_divide(self) -> Head:
        if self.whole and self.detail > 1:
            raise ValueError("a head of the whole picture has no windows to divide")
        return self

    @property
    def whole(self) -> bool:
        """Whether it judges the whole picture at once."""
        return (self.rows, self.columns) == (1, 1)


class Windows(StrictModel):
    """The heatmap's grid: its values are the scores of windows, or of subwindows.

    Without heads, the score is the greatest mean of 3 x 3 neighbouring windows. `Head.detail`
    divides windows into subwindows. Files of format 3 and before have `grid`, the side of a square
    grid.

    Args:
        rows: Values from top to bottom.
        columns: Values from left to right.
        low: Where a heatmap's colours begin: the median score of good parts' windows;
            None until the model is calibrated.
        high: Where they end: as far above the threshold as `low` lies below it. Both are fixed
            once, so colours compare between pictures.
    """

    rows: Annotated[int, Field(ge=2, le=2048)]
    columns: Annotated[int, Field(ge=2, le=2048)]
    low: float | None = None
    high: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _square(cls, values: Any) -> Any:  # noqa: ANN401
        """Reads the `grid` of format 3 and before."""
        return from_square(values, "grid", "rows", "columns")

    @property
    def count(self) -> int:
        """Number of windows."""
        return self.rows * self.columns


Method = Literal["split", "out_of_fold"]
Tail = Literal["rank", "lognormal"]


class Calibration(StrictModel):
    """A threshold from good parts only.

    Args:
        threshold: Scores above it are defects.
        false_reject_rate: The wanted share of good parts rejected, on average over calibrations.
        confidence: Probability with which `bound` holds for this calibration.
        bound: The share of good parts rejected is at most this, with that confidence.
        good_scores: Scores of the calibration images, ascending.
        images: Number of calibration images, or of parts whose scores were stored.
        scored_by: `torch`, or the name of the backend that gave the scores.
        method: `split` where the model saw none of the calibration images, so that the rate and
            the bound are promises; `out_of_fold` where each was judged by a model of the other
            folds, so that both are estimates.
        tail: What set the threshold: the `rank` of a score, or a `lognormal` fitted to the scores,
            so that the rate and the bound are estimates, too.
        rejected: Parts among `images` that an earlier threshold rejected and nobody labelled. They
            have no place in `good_scores`; the rank counts them as good parts above it, so that the
            rate and the bound hold however many of them were good.
    """

    threshold: float
    false_reject_rate: float
    confidence: float
    bound: float
    good_scores: Annotated[tuple[float, ...], Field(min_length=1)]
    images: int
    scored_by: Shown
    method: Method = "split"
    tail: Tail = "rank"
    rejected: Annotated[int, Field(ge=0)] = 0

    @field_validator("good_scores")
    @classmethod
    def _ascending(cls, scores: tuple[float, ...]) -> tuple[float, ...]:
        if list(scores) != sorted(scores):
            raise ValueError("the good scores do not ascend")
        return scores

    @property
    def estimated(self) -> bool:
        """Whether the rate and the bound are estimates; else the exact law promises them."""
        return self.method == "out_of_fold" or self.tail == "lognormal"

    @cached_property
    def lowest_plausible(self) -> float:
        """A score below it is no good part's, but a fault: a covered lens, a dead sensor.

        Five times as far below the median as the tenth of the good scores (one of them alone may
        be that of a wrong picture), in the logarithm where both are positive (a mean of squares
        varies by factors), and a hundredth of the median lower still, for sets of good scores
        that hardly differ.
        """
        scores = self.good_scores
        median, low = _quantile(scores, 0.5), _quantile(scores, 0.1)
        if low > 0:
            return median * (low / median) ** 5 - 0.01 * median
        return median - 5.0 * (median - low) - 0.01 * abs(median)


def _quantile(ascending: tuple[float, ...], share: float) -> float:
    """Returns a quantile of ascending values, interpolated between two of them."""
    whole, rest = divmod(share * (len(ascending) - 1), 1.0)
    low, high = ascending[int(whole)], ascending[min(int(whole) + 1, len(ascending) - 1)]
    return low + rest * (high - low)


class Appearance(StrictModel):
    """How good pictures look as the network's input; the image checks take their limits from it.

    Args:
        darkest: Low end of the pictures' mean grey levels, 0..255; see
            `inspection.image_checks.appearance_of`.
        brightest: High end of them, 0..255.
        softest: Low end of their sharpness; see `inspection.image_checks.look`.
        images: Number of pictures that were measured.
    """

    darkest: Annotated[float, Field(ge=0, le=255)]
    brightest: Annotated[float, Field(ge=0, le=255)]
    softest: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    images: Annotated[int, Field(ge=1)]


_HASH_BYTES = 6
"""Of a picture's SHA-256: among 10,000 pictures a new one is taken for one of them once in 3e10."""


class Provenance(StrictModel):
    """How a model was trained.

    Args:
        recipe: Name of the settings.
        seed: Seeds the folds, the weights, the order of pictures and the noise.
        images: Number of pictures that the model was fitted on.
        epochs: Number of epochs of training.
        data_sha256: Hash of settings and pictures.
        created: Time of training, ISO 8601.
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
        return {digest for digest in digests if bytes.fromhex(digest)[:_HASH_BYTES] in known}

    def shares_pictures(self, other: Provenance) -> bool:
        """Whether both were trained on some of the same pictures, as far as that is recorded."""
        return not self._known.isdisjoint(other._known)

    @property
    def _known(self) -> set[bytes]:
        packed = base64.b64decode(self.pictures)
        return {packed[k : k + _HASH_BYTES] for k in range(0, len(packed), _HASH_BYTES)}


def packed_hashes(digests: Iterable[str]) -> str:
    """Returns the SHA-256 digests (hexadecimal) of pictures as `Provenance.pictures` has them."""
    shortened = sorted(bytes.fromhex(digest)[:_HASH_BYTES] for digest in digests)
    return base64.b64encode(b"".join(shortened)).decode()


class HalfPrecision(StrictModel):
    """How FP16 changed the model's weights and scores, on the frames that export ran.

    Args:
        weights: Number of weights that are stored in FP16.
        subnormal_share: Share of these, zeros not counted, too small for FP16's full precision.
        median_relative_error: Median error of the scores, emulated FP16 against FP32.
        greatest_relative_error: Greatest error of the scores, emulated FP16 against FP32.
    """

    weights: int
    subnormal_share: float
    median_relative_error: float
    greatest_relative_error: float


class Int8(StrictModel):
    """How INT8 changed the scores of good pictures that gave neither ranges nor the correction.

    Scores are those of the graph in the file, its other parts in emulated FP16.

    Args:
        convolutions: Number of the extractor's convolutions that are in INT8.
        left_in_float: Number of the first ones that are not, without depthwise ones.
        share: Share of the extractor's multiplications that are in INT8.
        pictures: Number of good pictures that both graphs scored.
        shift: Median of the scores divided by those of the FP32 graph; the threshold takes part in
            it.
        median_relative_error: Median error of the scores against the FP32 graph's times `shift`.
        greatest_relative_error: Greatest error of the scores, relative to the same.
        flips: Number of these pictures that one graph calls good and the other a defect, each at
            its own threshold; None without a threshold.
    """

    convolutions: Annotated[int, Field(ge=1)]
    left_in_float: Annotated[int, Field(ge=0)]
    share: Annotated[float, Field(ge=0, le=1)]
    pictures: Annotated[int, Field(ge=1)]
    shift: Annotated[float, Field(gt=0)]
    median_relative_error: float
    greatest_relative_error: float
    flips: int | None = None


class Verification(StrictModel):
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


class ModelMetadata(StrictModel):
    """All that a model says of itself; `format_version` is checked before anything else is read.

    `windows` is None where features are averaged over the whole picture, as in the original;
    `appearance` where no good pictures were measured, as in files of format 2 and before;
    `picture_sizes` likewise, and in files of format 4 and before; `detection_limits` where no
    defects were painted.
    Either `flow` is there, which judges the extractor's features alone, as in the original and in
    files of format 3 and before, or `heads`, each with a flow of its own.
    """

    format_version: int = FORMAT_VERSION
    name: Shown
    input: InputContract
    views: Views
    extractor: ExtractorSpec
    flow: FlowSpec | None = None
    heads: tuple[Head, ...] = ()
    score: ScoreKind = "z2"
    windows: Windows | None = None
    calibration: Calibration | None = None
    appearance: Appearance | None = None
    picture_sizes: PictureSizes | None = None
    detection_limits: DetectionLimits | None = None
    provenance: Provenance
    weights_sha256: Shown | None = None
    precision: Precision = "fp32"
    verification: Verification | None = None

    @model_validator(mode="after")
    def _one_way_to_judge(self) -> ModelMetadata:
        if (self.flow is None) == (not self.heads):
            raise ValueError("a model has either a flow or heads")
        return self

    @property
    def threshold(self) -> float | None:
        """The calibration's threshold; None until the model is calibrated."""
        return self.calibration.threshold if self.calibration else None

    def replaced(self, **changes: object) -> ModelMetadata:
        """Returns a copy with `changes`, validated again."""
        return ModelMetadata.model_validate({**dict(self), **changes})
