"""Which models a station runs, and which cameras each of them judges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .models import Config, ModelConfig

_DEFAULT = "model"
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, eq=False)
class PlannedModel:
    """A model that the station runs in one engine, whatever the number of its cameras.

    Args:
        name: Of it in this station: that in the store, or the file's.
        key: The table that names it: `model`, or `camera.NAME.model` of its first camera.
        config: What the engine is made of; without a threshold.
        thresholds: The station's own by camera; None takes the model's.
    """

    name: str
    key: str
    config: ModelConfig
    thresholds: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that it judges."""
        return tuple(self.thresholds)

    def component(self, kind: str) -> str:
        """Returns the name of a component (`engine`) in states and events.

        That of `[model]` has no suffix, as in a station with one model.
        """
        return kind if self.key == _DEFAULT else f"{kind}:{self.name}"


def planned_models(config: Config) -> tuple[PlannedModel, ...]:
    """Returns a station's models: that of `[model]` first, then in the order of the cameras."""
    groups: dict[object, dict[str, ModelConfig]] = {}
    for camera in config.camera:
        judged_by = config.model_of(camera)
        groups.setdefault(judged_by.source, {})[camera] = judged_by
    ordered = sorted(groups, key=lambda source: source != config.model.source)
    planned: list[PlannedModel] = []
    for source in ordered:
        first, judged_by = next(iter(groups[source].items()))
        planned.append(
            PlannedModel(
                _unique(_name(judged_by), {one.name for one in planned}),
                _DEFAULT if source == config.model.source else f"camera.{first}.model",
                judged_by.model_copy(update={"threshold": None}),
                {camera: one.threshold for camera, one in groups[source].items()},
            )
        )
    return tuple(planned)


def _name(config: ModelConfig) -> str:
    if config.store is not None:
        return config.store
    return "fake" if config.path is None else _ODD.sub("_", config.path.stem)


def _unique(name: str, taken: set[str]) -> str:
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 2))
    return next((one for one in (name, *numbered) if one not in taken), name)
