"""Defines how a frame becomes a model's input, and in which views it is judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .errors import ViewsError

Fit = Literal["stretch", "letterbox", "crop"]
Pixel = Literal["bgr", "bgrx"]
MOST_PIXELS = 1_000_000
"""Along a side of a camera's frame; a line-scan camera's is long."""
RIGHT_ANGLES = (0.0, 90.0, 180.0, 270.0)


class Part(BaseModel):
    """Base class of all records read from outside: immutable, finite; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Region(Part):
    """The region of interest, in pixels of the camera's frame."""

    x: Annotated[int, Field(ge=0, le=MOST_PIXELS)]
    y: Annotated[int, Field(ge=0, le=MOST_PIXELS)]
    width: Annotated[int, Field(ge=8, le=MOST_PIXELS)]
    height: Annotated[int, Field(ge=8, le=MOST_PIXELS)]

    def __str__(self) -> str:
        """Returns the form that `--roi` takes."""
        return f"{self.x},{self.y},{self.width},{self.height}"


class Tiles(Part):
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


class InputContract(Part):
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
        if isinstance(values, dict) and "size" in values:
            values = dict(values)
            size = values.pop("size")
            values = {"height": size, "width": size, **values}
        return values

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

    @property
    def is_square(self) -> bool:
        """Whether height and width are equal, so that a quarter turn keeps the shape."""
        return self.height == self.width


class Views(Part):
    """The rotations whose scores are averaged, and those that training covered.

    Args:
        angles: Degrees counter-clockwise; the score is the mean over them.
        trained: Angles that training saw, or "any" when it drew random rotations.
    """

    angles: Annotated[tuple[float, ...], Field(min_length=1, max_length=64)]
    trained: tuple[float, ...] | Literal["any"]

    def check(self) -> None:
        """Refuses angles that training never saw, since they make good parts score as defects.

        Raises:
            ViewsError: An angle is not covered by training.
        """
        if self.trained == "any":
            return
        unseen = [angle for angle in self.angles if angle % 360 not in self.trained]
        if unseen:
            raise ViewsError(
                f"views {_degrees(unseen)} were never trained: the model saw "
                f"{_degrees(self.trained)}. A rotation that training never saw makes good parts "
                "score as defects. Use trained angles, or train with --rotation random."
            )


def check_views(views: Views, contract: InputContract) -> None:
    """Refuses rotations that this input's shape does not allow or that training never saw.

    Raises:
        ViewsError: An angle is not covered by training, or would change the shape of an input
            that is not square; the message names the angles and what to do.
    """
    views.check()
    turned = [angle for angle in views.angles if angle % 180.0]
    if turned and not contract.is_square:
        raise ViewsError(
            f"views {_degrees(turned)} can't be had: the input is {contract.height} x "
            f"{contract.width} pixels (height x width), and only 0 and 180 degrees keep the shape "
            "of an input that is not square. Use views of 0 and 180 degrees, or a square input."
        )


def _degrees(angles: tuple[float, ...] | list[float]) -> str:
    return ", ".join(f"{angle:g}" for angle in angles) + " degrees"
