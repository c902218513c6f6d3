"""Which sizes of pictures a model knows, in pixels of the camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from .contract import Part

_UNSEEN = 0.05
"""Sizes vary where more than this share of the pictures have a size that no other has: so likely is
it that the next picture has a new one, too (Good and Turing's estimate; Good 1953)."""
_LISTED = 64
"""With more sizes than these, they vary."""
_ROOM = 0.1
"""Sizes that vary may lie so far outside of those that were seen."""
_NAMED = 4
"""Sizes that a message lists."""

Side = Annotated[int, Field(ge=1)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class PictureSizes(Part):
    """Sizes of the good pictures that a model learned from or was calibrated with.

    A camera gives one size, so that a frame of another one is a fault. Where each picture has been
    cut out by itself, sizes vary, and their range counts.

    Args:
        sizes: Width and height of each size, the most frequent first; empty where they vary.
        varied: Whether sizes vary from picture to picture.
        width: Least and greatest width.
        height: Least and greatest height.
        aspect: Least and greatest width divided by height.
    """

    sizes: tuple[tuple[Side, Side], ...] = ()
    varied: bool = False
    width: tuple[Side, Side]
    height: tuple[Side, Side]
    aspect: tuple[Ratio, Ratio]

    @classmethod
    def of(cls, pictures: Iterable[tuple[int, int]]) -> PictureSizes:
        """Returns the sizes of pictures, of which there is at least one.

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
