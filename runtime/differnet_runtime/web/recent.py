"""The latest verdicts, in memory: what a page shows and a stream of events begins with."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, ClassVar

from pydantic import Field, model_validator

from ..events import InspectionEvent
from ..metadata import Part
from ..telling import Telling


class RecentEvent(Part):
    """A verdict and its place in the order of verdicts since the start."""

    number: int = Field(ge=1)
    event: InspectionEvent


class ShownEvent(InspectionEvent, Telling):
    """A verdict as the page gets it: its reason can be said in another language."""

    SENTENCES: ClassVar = ("reason",)

    @model_validator(mode="before")
    @classmethod
    def _show(cls, value: Any) -> Any:  # noqa: ANN401 - whatever is validated
        return dict(value) if type(value) is InspectionEvent else value

    @classmethod
    def of(cls, event: InspectionEvent) -> ShownEvent:
        """Returns an event with its reason taken apart."""
        return cls.model_construct(**dict(event), said=cls.taken_apart(dict(event)))


class RecentEvents:
    """A ring of the latest verdicts; safe to use from several threads.

    Args:
        size: So many are kept.
    """

    def __init__(self, size: int = 2000) -> None:
        self._events: deque[tuple[int, InspectionEvent]] = deque(maxlen=size)
        self._number = 0
        self._lock = threading.Lock()

    @property
    def number(self) -> int:
        """Of the latest; 0 before the first."""
        return self._number

    def add(self, event: InspectionEvent) -> None:
        """Appends a verdict; the oldest goes when the ring is full."""
        with self._lock:
            self._number += 1
            self._events.append((self._number, event))

    def after(
        self, number: int = 0, *, camera: str | None = None, limit: int = 2000
    ) -> list[RecentEvent]:
        """Returns verdicts, the oldest first.

        Args:
            number: Only later ones.
            camera: Only of this one.
            limit: At most so many, the newest.
        """
        with self._lock:
            newest = self._newest(number, camera, limit)
        return [
            RecentEvent.model_construct(number=number, event=event)
            for number, event in reversed(newest)
        ]

    def _newest(
        self, after: int, camera: str | None, limit: int
    ) -> list[tuple[int, InspectionEvent]]:
        found: list[tuple[int, InspectionEvent]] = []
        for number, event in reversed(self._events):
            if number <= after or len(found) == limit:
                break
            if camera is None or event.camera == camera:
                found.append((number, event))
        return found
