"""What differs between two configurations, so that a reload touches only that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .models import Config
from .problems import Key, dotted

_FIXED = ("name", "state")
_NO_FILES: Mapping[Key, str] = MappingProxyType({})


@dataclass(frozen=True)
class Changes:
    """What a reload has to do; false when nothing differs.

    Args:
        added: Cameras that the new configuration names and the old one does not.
        removed: The other way round.
        changed: Cameras that both name, with other settings.
        tables: Of the other tables (`model`, `mqtt`, ...) those that differ.
        needs_restart: Keys that differ but can't be changed while the daemon runs.
        contents: Keys that name the same file as before, with another content.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.tables)

    def __str__(self) -> str:
        """Returns what differs in a line, for the audit trail."""
        cameras = (("added", self.added), ("removed", self.removed), ("changed", self.changed))
        named = [f"camera.{name} {how}" for how, names in cameras for name in names]
        contents = [f"content of {key}" for key in self.contents]
        return ", ".join([*self.tables, *named, *contents])


def differences(
    old: Config,
    new: Config,
    old_files: Mapping[Key, str] = _NO_FILES,
    new_files: Mapping[Key, str] = _NO_FILES,
) -> Changes:
    """Compares two configurations, table by table and camera by camera.

    Args:
        old: In effect.
        new: To be taken over.
        old_files: Of old's files of secrets and certificates: `secrets.fingerprints`.
        new_files: Of new's.
    """
    before, after = old.camera, new.camera
    files = [key for key in new_files if new_files[key] != old_files.get(key)]
    cameras = {key[1] for key in files if key[0] == "camera"}
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(
            name
            for name in after
            if name in before and (before[name] != after[name] or name in cameras)
        ),
        tables=tuple(
            name
            for name in Config.model_fields
            if name != "camera"
            and (getattr(old, name) != getattr(new, name) or name in {key[0] for key in files})
        ),
        needs_restart=tuple(
            f"station.{key}"
            for key in _FIXED
            if getattr(old.station, key) != getattr(new.station, key)
        ),
        contents=tuple(dotted(key) for key in files if key in old_files),
    )
