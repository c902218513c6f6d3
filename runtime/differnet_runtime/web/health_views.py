"""The API's view of a station's health."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from ..events import ModelRef
from ..metadata import Part
from ..telling import Telling


class Alive(Part):
    """Whether every stage has made progress recently."""

    live: bool


class StateView(Telling):
    """A component that is not well; see `daemon.health.State`.

    Args:
        component: `camera:NAME`, `parts:NAME`, `engine`, `sink:NAME`, ...
        state: What is wrong, as a code for programs.
        reason: What is wrong, in words.
        stops: Whether there are no verdicts while it lasts.
        values: The figures that `reason` mentions, by name.
    """

    SENTENCES: ClassVar = ("reason",)

    component: str
    state: str
    reason: str | None = None
    stops: bool = False
    values: dict[str, float] = Field(default_factory=dict)


class Health(Part):
    """Whether the station does its work.

    Args:
        ready: Every camera and the engine give verdicts.
        degraded: Inspection goes on, but something is amiss (a full disk, a fallback engine).
        reasons: In words, each beginning with its component (`camera:left: stalled ...`).
        problems: The same for programs, in the same order.
        models: By camera, the model that judges it now.
    """

    ready: bool
    degraded: bool = False
    reasons: list[str] = Field(default_factory=list)
    problems: list[StateView] = Field(default_factory=list)
    models: dict[str, ModelRef] = Field(default_factory=dict)
