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


class Start(Part):
    """What the engine process is to run.

    Args:
        model: The model file; None runs the fake backend's model.
        model_hash: Its content hash; a file that was changed meanwhile is refused.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads; 0 lets the backend choose.
        height: Height of the graph's input in pixels.
        width: Likewise.
        channels: Its channels.
        channel: The socket's file descriptor.
        memory: The shared memory's.
        parent: Process id of the daemon, without which this process ends.
    """

    model: Path | None
    model_hash: str
    backend: str
    threads: int
    height: int
    width: int
    channels: int
    channel: int
    memory: int
    parent: int


class Ready(Part):
    """The model is loaded and has passed its golden frames."""

    kind: Literal["ready"] = "ready"
    backend: str
    reasons: dict[str, str]


class Failed(Part):
    """The model can't be run; the process ends."""

    kind: Literal["failed"] = "failed"
    code: str
    text: str


class Request(Part):
    """A frame lies in a slot of the shared memory."""

    id: int
    slot: int


class Result(Part):
    """Its score.

    Args:
        kind: Always `result`.
        id: Of the request.
        score: A finite number.
        heads: Score of each head by its name, in the model's order; empty where it has none.
        heatmap: Rows and columns of the heatmap, which lies in the shared memory; None for none.
        infer_ms: Milliseconds in the backend.
    """

    kind: Literal["result"] = "result"
    id: int
    score: float
    heads: dict[str, float] = Field(default_factory=dict)
    heatmap: tuple[int, int] | None
    infer_ms: float


class Unscored(Part):
    """The frame has no score; the process goes on."""

    kind: Literal["unscored"] = "unscored"
    id: int
    code: str
    text: str


ANSWER: TypeAdapter[Ready | Failed | Result | Unscored] = TypeAdapter(
    Annotated[Ready | Failed | Result | Unscored, Field(discriminator="kind")]
)
