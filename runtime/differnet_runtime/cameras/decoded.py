"""What a stream's reader gives: a decoded picture with all that its decoder knew of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ..records import Image


@dataclass(frozen=True)
class Decoded:
    """One picture of a stream, in the order in which pictures are shown.

    Args:
        image: BGR; None where the decoder gave none.
        arrived_ns: Monotonic, when its data were there.
        stamp_ms: The stream's own time stamp.
        picture: `I`, `P` or `B`, as it was predicted; `?` where that is not known.
        key: Whether no later picture needs one before this.
        damage: What the reader or the decoder saw missing or wrong in it.
        waited: Whether its data were waited for: nothing newer lay there.
        alone: Whether neither this picture nor the next ones refer to another (JPEG).
    """

    image: Image | None
    arrived_ns: int
    stamp_ms: float | None = None
    picture: str = "?"
    key: bool = False
    damage: str | None = None
    waited: bool = True
    alone: bool = False


class StreamReader(ABC):
    """Reads and decodes one stream; made open, used by one thread, closed once."""

    fps: float | None = None
    """What the stream says of its frame rate; may be wrong."""

    not_seen: str | None = None
    """What this reader can't see of a damaged stream, in a sentence for the operator."""

    @abstractmethod
    def read(self) -> Decoded | None:
        """Waits for the next picture.

        Returns:
            The picture, or None at the end of the stream.

        Raises:
            CameraError: The stream is lost, or gives nothing in time.
        """

    @abstractmethod
    def close(self) -> None:
        """Releases the stream."""


def blank(size: tuple[int, int]) -> Image:
    """Returns the black picture that stands for one that can't be decoded.

    Args:
        size: Height and width.
    """
    return np.zeros((*size, 3), np.uint8)
