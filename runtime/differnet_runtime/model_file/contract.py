"""How a frame becomes a model's input, in which views it is judged, and which sizes are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..errors import ViewsError

Fit = Literal["stretch", "letterbox", "crop"]
Pixel = Literal["bgr", "bgrx"]
LONGEST_SIDE = 1_000_000
"""Most pixels along a side of a camera's frame; a line-scan camera's is long."""
RIGHT_ANGLES = (0.0, 90.0, 180.0, 270.0)
"""Degrees of the rotations that keep every pixel of a square."""

_UNSEEN = 0.05
"""Sizes vary where more than this share of the pictures have a size that no other has: so likely is
it that the next picture has a new one, too (Good and Turing's estimate; Good 1953)."""
_LISTED = 64
"""Greatest number of sizes that do not count as varied."""
_ROOM = 0.1
"""Share by which sizes that vary may lie outside the range that was seen."""
_NAMED = 4
"""Number of sizes that a message lists."""


def _whole(value: object) -> object:
    """Takes 8.0 for 8, as JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Side = Annotated[int, Field(ge=1)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StrictModel(BaseModel):
    """Base class of all records read from outside: immutable, finite; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def from_square(values: Any, side: str, *names: str) -> Any:  # noqa: ANN401
    """Reads the side of a square, as files of format 3 and before have it, as two sides.

    Args:
        values: Input of a `before` validator; anything but a dictionary is returned unchanged.
        side: Key of the square's side.
        names: Keys of the two sides.
    """
    if not isinstance(values, dict) or side not in values:
        return values
    others = {key: value for key, value in values.items() if key != side}
    return dict.fromkeys(names, values[side]) | others


class Region(StrictModel):
    """The region of interest, in pixels of the camera's frame.

    Example:
        >>> str(Region(x=100, y=50, width=640, height=480))
        '100,50,640,480'
    """

    x: Annotated[int, Field(ge=0, le=LONGEST_SIDE), BeforeValidator(_whole)]
    y: Annotated[int, Field(ge=0, le=LONGEST_SIDE), BeforeValidator(_whole)]
    width: Annotated[int, Field(ge=8, le=LONGEST_SIDE), BeforeValidator(_whole)]
    height: Annotated[int, Field(ge=8, le=LONGEST_SIDE), BeforeValidator(_whole)]

    def __str__(self) -> str:
        """Returns the form that `--roi` takes."""
        return f"{self.x},{self.y},{self.width},{self.height}"


class Tiles(StrictModel):
    """How the graph divides a large input before the extractor sees it.

    The tiles go through the extractor as one batch; their feature maps are joined again before
    anything is judged, so the grid of windows and the heatmap have no seams.

    Args:
        rows: Number of tiles from top to bottom.
        columns: Number of tiles from left to right.
        overlap: Pixels that a tile shares with its neighbour; a multiple of 64, so that half of
            it is a multiple of the extractor's stride of 32.
    """

    rows: Annotated[int, Field(ge=1, le=16)]
    columns: Annotated[int, Field(ge=1, le=16)]
    overlap: Annotated[int, Field(ge=0, le=512, multiple_of=64)] = 64

    def __str__(self) -> str:
        """Returns the form that `--tiles` takes."""
        return f"{self.rows}x{self.columns}"


class InputContract(StrictModel):
    """How a camera's frame becomes the graph's `(N, height, width, channels)` uint8 input.

    Files of format 3 and before have `size`, the side of a square, instead of height and width.

    Args:
        height: Height of the input in pixels; a multiple of 4, so that nearest-neighbour scaling to
            a half and a quarter is a strided slice.
        width: Width of the input in pixels; a multiple of 4, too.
        tiles: Divides the input inside the graph; with None the extractor gets it whole.
        region: The part of the frame that is cut out first; None keeps the whole frame.
        fit: `stretch` ignores the aspect ratio (as the original does), `letterbox` pads with
            black, `crop` cuts off the excess of the longer side.
        white_level: The 16-bit value that becomes 255 (4095 for a 12-bit camera); one fixed
            scale, never taken from the picture. 8-bit frames are not scaled.
        pixel: `bgr`, or `bgrx` with a fourth byte that is ignored (what Jetson's nvvidconv gives
            without a copy through the CPU).

    Example:
        >>> InputContract(height=224, width=320, fit="letterbox").shape
        (224, 320, 3)
    """

    height: Annotated[int, Field(ge=32, le=8192, multiple_of=4)]
    width: Annotated[int, Field(ge=32, le=8192, multiple_of=4)]
    tiles: Tiles | None = None
    region: Region | None = None
    fit: Fit = "stretch"
    white_level: Annotated[int, Field(ge=255, le=65535)] = 65535
    pixel: Pixel = "bgr"

    @model_validator(mode="before")
    @classmethod
    def _square(cls, values: Any) -> Any:  # noqa: ANN401
        """Converts the `size` of format 3 and before to height and width."""
        return from_square(values, "size", "height", "width")

    @model_validator(mode="after")
    def _tiles_fit(self) -> InputContract:
        if self.tiles is not None and (
            self.height % (32 * self.tiles.rows) or self.width % (32 * self.tiles.columns)
        ):
            raise ValueError(
                f"{self.tiles} tiles need a height that is a multiple of {32 * self.tiles.rows} "
                f"and a width that is one of {32 * self.tiles.columns}; received "
                f"{self.height}x{self.width}"
            )
        return self

    @property
    def channels(self) -> int:
        """Bytes per pixel of the graph's input."""
        return len(self.pixel)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one frame of the graph's input: height, width, channels."""
        return (self.height, self.width, self.channels)


class Views(StrictModel):
    """The rotations whose scores are averaged, and those that training covered.

    Args:
        angles: Degrees counter-clockwise; the score is the mean over them.
        trained: Angles that training saw, or "any" when it drew random rotations.

    Example:
        >>> len(Views(angles=(0.0, 180.0), trained=(0.0, 90.0, 180.0, 270.0)).angles)
        2
    """

    angles: Annotated[tuple[float, ...], Field(min_length=1, max_length=64)]
    trained: tuple[float, ...] | Literal["any"]


def check_views(views: Views, contract: InputContract) -> None:
    """Refuses rotations that training never saw or that this input's shape does not allow.

    Raises:
        ViewsError: An angle is not covered by training, so that good parts would score as defects,
            or would change the shape of an input that is not square; names the angles and what to
            do.
    """
    trained = views.trained
    if trained != "any" and (unseen := [a for a in views.angles if a % 360 not in trained]):
        raise ViewsError(
            f"views {_degrees(unseen)} were never trained: the model saw {_degrees(trained)}. A "
            "rotation that training never saw makes good parts score as defects. Use trained "
            "angles, or train with --rotation random."
        )
    turned = [angle for angle in views.angles if angle % 180.0]
    if turned and contract.height != contract.width:
        raise ViewsError(
            f"views {_degrees(turned)} can't be had: the input is {contract.height} x "
            f"{contract.width} pixels (height x width), and only 0 and 180 degrees keep the shape "
            "of an input that is not square. Use views of 0 and 180 degrees, or a square input."
        )


def _degrees(angles: Iterable[float]) -> str:
    return ", ".join(f"{angle:g}" for angle in angles) + " degrees"


class PictureSizes(StrictModel):
    """Sizes of the good pictures that a model learned from or was calibrated with.

    A camera gives one size, so that a frame of another one is a fault. Where each picture has been
    cut out by itself, sizes vary, and their range counts.

    Args:
        sizes: Width and height of each size, the most frequent first; empty where they vary.
        varied: Whether sizes vary from picture to picture.
        width: Least and greatest width.
        height: Least and greatest height.
        aspect: Least and greatest width divided by height.

    Example:
        >>> PictureSizes.of([(640, 480)] * 20).accepts(640, 480)
        True
    """

    sizes: tuple[tuple[Side, Side], ...] = ()
    varied: bool = False
    width: tuple[Side, Side]
    height: tuple[Side, Side]
    aspect: tuple[Ratio, Ratio]

    @classmethod
    def of(cls, pictures: Iterable[tuple[int, int]]) -> PictureSizes:
        """Returns the sizes of at least one picture.

        Args:
            pictures: Width and height of each, in pixels.
        """
        counts = Counter(pictures)
        once = sum(count == 1 for count in counts.values())
        varied = (once > 1 and once > _UNSEEN * counts.total()) or len(counts) > _LISTED
        widths, heights = zip(*counts, strict=True)
        aspects = [width / height for width, height in counts]
        return cls(
            sizes=() if varied else tuple(size for size, _ in counts.most_common()),
            varied=varied,
            width=(min(widths), max(widths)),
            height=(min(heights), max(heights)),
            aspect=(min(aspects), max(aspects)),
        )

    def joined(self, other: PictureSizes | None) -> PictureSizes:
        """Returns the sizes of both."""
        if other is None:
            return self
        return PictureSizes(
            sizes=tuple(dict.fromkeys((*self.sizes, *other.sizes))),
            varied=self.varied or other.varied,
            width=_range(self.width, other.width),
            height=_range(self.height, other.height),
            aspect=_range(self.aspect, other.aspect),
        )

    def accepts(self, width: int, height: int) -> bool:
        """Whether a frame of this size is like the pictures that the model knows."""
        if not self.varied:
            return (width, height) in self.sizes
        return (
            _within(width, self.width)
            and _within(height, self.height)
            and _within(width / height, self.aspect)
        )

    def __str__(self) -> str:
        """Returns the sizes in words."""
        if self.varied:
            widths, heights = (_span(*side) for side in (self.width, self.height))
            return f"{widths} x {heights} (sizes vary)"
        named = ", ".join(f"{width} x {height}" for width, height in self.sizes[:_NAMED])
        more = len(self.sizes) - _NAMED
        return named + (f" and {more} more sizes" if more > 0 else "")


def _range(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


def _within(value: float, ends: tuple[float, float]) -> bool:
    return ends[0] / (1.0 + _ROOM) <= value <= ends[1] * (1.0 + _ROOM)


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
