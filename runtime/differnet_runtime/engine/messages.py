"""What the process that builds an engine and the one that waits for it say to each other.

The request is one JSON argument; the answers are JSON lines on standard output. Standard input
says nothing: it ends when the waiting process ends, and then the builder ends too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ..metadata import Part
from .audit import AuditReport
from .identity import EngineIdentity
from .store import SmokeTest


class Request(Part):
    """What to build.

    Args:
        model: The model file.
        identity: What the engine must be; a file that was changed meanwhile is refused.
        plan: Where to write the plan.
        timing_cache: TensorRT's measurements, kept between builds.
    """

    model: Path
    identity: EngineIdentity
    plan: Path
    timing_cache: Path


class Progress(Part):
    """How far the build is, from 0 to 1."""

    kind: Literal["progress"] = "progress"
    done: float


class Finished(Part):
    """The plan is written, and passed."""

    kind: Literal["finished"] = "finished"
    plan_sha256: str
    plan_bytes: int
    smoke_test: SmokeTest
    audit: AuditReport


class Failed(Part):
    """It can't be built.

    Args:
        error: Name of the class in `errors`.
        message: Its text.
    """

    kind: Literal["failed"] = "failed"
    error: str
    message: str


Message = Annotated[Progress | Finished | Failed, Field(discriminator="kind")]
MESSAGE: TypeAdapter[Progress | Finished | Failed] = TypeAdapter(Message)
