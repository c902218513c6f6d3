"""What the store tells of its models, and of what was done with them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..metadata import Part
from .cards import Card


class StoredModel(Card):
    """A model file in the store, with its card.

    Args:
        name: Of the part that it judges; models of one name take each other's place.
        hash: Content hash.
        path: Where it lies.
        bytes: Its size.
        added: When, ISO 8601.
        active: It judges.
        previous: It judged before; a rollback makes it active again.
        precision: `fp32`, `fp16` or `int8`; None if it is damaged.
        threshold: None if it is damaged, or not calibrated.
        signature: In words, whether it is signed and by which key; None if it is damaged.
        damaged: Why it can't be used, or None.
        caution: Why it may be for another part than the active model of its name, or None.
    """

    name: str
    hash: str
    path: Path
    bytes: int
    added: str
    active: bool
    previous: bool
    precision: str | None
    threshold: float | None
    signature: str | None
    damaged: str | None
    caution: str | None = None


class Change(Part):
    """A line of a name's history.

    Args:
        at: When, ISO 8601.
        action: What was done.
        hash: With which model.
        reason: Why, where it is known (a rollback's cause).
    """

    at: str
    action: Literal["add", "activate", "rollback"]
    hash: str
    reason: str | None = None
