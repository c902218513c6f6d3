"""What differs between two configurations, so that a reload touches only that."""

from __future__ import annotations

from dataclasses import dataclass

from .models import Config

_FIXED = ("name", "state")


@dataclass(frozen=True)
class Changes:
    """What a reload has to do; false when nothing differs.

    Args:
        added: Cameras that the new configuration names and the old one does not.
        removed: The other way round.
        changed: Cameras that both name, with other settings.
        tables: Of the other tables (`model`, `mqtt`, ...) those that differ.
        needs_restart: Keys that differ but can't be changed while the daemon runs.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.tables)

    def __str__(self) -> str:
        """Returns what differs in a line, for the audit trail."""
        cameras = (("added", self.added), ("removed", self.removed), ("changed", self.changed))
        return ", ".join(
            [*self.tables, *(f"camera.{name} {how}" for how, names in cameras for name in names)]
        )


def differences(old: Config, new: Config) -> Changes:
    """Compares two configurations, table by table and camera by camera."""
    before, after = old.camera, new.camera
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and before[name] != after[name]),
        tables=tuple(
            name
            for name in Config.model_fields
            if name != "camera" and getattr(old, name) != getattr(new, name)
        ),
        needs_restart=tuple(
            f"station.{key}"
            for key in _FIXED
            if getattr(old.station, key) != getattr(new.station, key)
        ),
    )
