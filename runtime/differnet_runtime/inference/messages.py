"""What the daemon and the engine process say to each other, beside the frames' shared memory.

The start is one JSON argument; each message is one JSON packet on a socket pair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ..metadata import Part

PACKET = 65536
"""Greatest message in bytes."""
MOST_TEXT = 4000
"""Characters of an error that are passed on."""
MOST_FRAME_TEXT = 1000
"""Likewise of one frame's; a message may hold one for each of 32."""


class Start(Part):
    """What the engine process is to run.

    Args:
        model: The model file; None runs the fake backend's model.
        model_hash: Its content hash; a file that was changed meanwhile is refused.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads; 0 lets the backend choose.
        batch: Frames that it is to take together; None leaves that to it.
        height: Height of the graph's input in pixels.
        width: Likewise.
        channels: Its channels.
        channel: The socket's file descriptor.
        memory: The shared memory's.
        parent: Process id of the daemon, without which this process ends.
        gives_way: Whether to take the lowest priority; see `processes.give_way`.
    """

    model: Path | None
    model_hash: str
    backend: str
    threads: int
    batch: int | None
    height: int
    width: int
    channels: int
    channel: int
    memory: int
    parent: int
    gives_way: bool = False


class Ready(Part):
    """The model is loaded and has passed its golden frames.

    Args:
        kind: Always `ready`.
        backend: What runs.
        reasons: Why not a better one, by the name of each.
        batch: Frames that it takes together.
    """

    kind: Literal["ready"] = "ready"
    backend: str
    reasons: dict[str, str]
    batch: int


class Failed(Part):
    """The model can't be run; the process ends."""

    kind: Literal["failed"] = "failed"
    code: str
    text: str


class Request(Part):
    """Frames lie in slots of the shared memory."""

    id: int
    slots: tuple[int, ...]


class Scored(Part):
    """A frame's score.

    Args:
        kind: Always `scored`.
        score: A finite number.
        heads: Score of each head by its name, in the model's order; empty where it has none.
        heatmap: Rows and columns of the heatmap, which lies in the frame's slot; None for none.
    """

    kind: Literal["scored"] = "scored"
    score: float
    heads: dict[str, float] = Field(default_factory=dict)
    heatmap: tuple[int, int] | None


class Unscored(Part):
    """The frame has no score; the process goes on."""

    kind: Literal["unscored"] = "unscored"
    code: str
    text: str


FrameResult = Annotated[Scored | Unscored, Field(discriminator="kind")]


class Results(Part):
    """What became of a request's frames.

    Args:
        kind: Always `results`.
        id: Of the request.
        frames: In the order of its slots.
        infer_ms: Milliseconds in the backend.
    """

    kind: Literal["results"] = "results"
    id: int
    frames: tuple[FrameResult, ...]
    infer_ms: float


ANSWER: TypeAdapter[Ready | Failed | Results] = TypeAdapter(
    Annotated[Ready | Failed | Results, Field(discriminator="kind")]
)
