"""What a station runs: its models with their cameras, and what a reload changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .models import Config, ModelConfig
from .problems import Key, dotted

_DEFAULT = "model"
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, eq=False)
class PlannedModel:
    """A model that the station runs in one engine, whatever the number of its cameras.

    Args:
        name: The model's name in this station: that in the store, or the file's.
        key: The table that names it: `model`, or `camera.NAME.model` of its first camera.
        config: How the engine runs; without a threshold.
        thresholds: Thresholds set in the configuration, by camera; None takes the model's.

    Example:
        >>> PlannedModel("part", "model", ModelConfig(store="part"), {"top": None}).cameras
        ('top',)
    """

    name: str
    key: str
    config: ModelConfig
    thresholds: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras whose frames it judges."""
        return tuple(self.thresholds)

    def component(self, kind: str) -> str:
        """Returns a component's name in states and events: `engine`, or `engine:NAME`.

        The model of `[model]` has no suffix, as in a station with one model.
        """
        return kind if self.key == _DEFAULT else f"{kind}:{self.name}"


def planned_models(config: Config) -> tuple[PlannedModel, ...]:
    """Returns a station's models: that of `[model]` first, then those of the cameras in order."""
    groups: dict[object, dict[str, ModelConfig]] = {}
    for camera in config.camera:
        judged_by = config.model_of(camera)
        groups.setdefault(judged_by.source, {})[camera] = judged_by
    planned: list[PlannedModel] = []
    for source in sorted(groups, key=lambda source: source != config.model.source):
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
    candidates = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 2)))
    return next(one for one in candidates if one not in taken)


def differences(
    old: Config, new: Config, old_files: Mapping[Key, str], new_files: Mapping[Key, str]
) -> tuple[str, ...]:
    """Returns what a reload changes, in the words of the audit trail; nothing if all is the same.

    Each changed table is named (`web`), each camera that is added, removed or changed (`camera.top
    changed`), and each key whose file has another content (`content of mqtt.password_file`).

    Args:
        old: The configuration in effect.
        new: The configuration to be used.
        old_files: `fingerprints` of the secrets and certificates of `old`.
        new_files: `fingerprints` of those of `new`.
    """
    files = [key for key in new_files if new_files[key] != old_files.get(key)]
    touched = {key[0] for key in files}
    tables = [
        name
        for name in Config.model_fields
        if name != "camera" and (getattr(old, name) != getattr(new, name) or name in touched)
    ]
    before, after, read = old.camera, new.camera, {key[:2] for key in files}
    return (
        *tables,
        *(f"camera.{name} added" for name in after if name not in before),
        *(f"camera.{name} removed" for name in before if name not in after),
        *(
            f"camera.{name} changed"
            for name in after
            if name in before and (before[name] != after[name] or ("camera", name) in read)
        ),
        *(f"content of {dotted(key)}" for key in files if key in old_files),
    )
