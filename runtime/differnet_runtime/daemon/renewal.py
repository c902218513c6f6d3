"""A change of configuration, read and checked before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..config import Changes, Config
from ..config.problems import Key
from ..web.audit import FILES, AuditTrail
from .model_set import NextModels
from .results import Sinks


@dataclass(frozen=True)
class Renewal:
    """What a station needs to change to another configuration; not in use yet.

    Args:
        config: The new one.
        files: Fingerprints of its files of secrets and certificates.
        changes: What differs from the old one.
        sinks: Those that change.
        models: Those that it names.
    """

    config: Config
    files: Mapping[Key, str]
    changes: Changes
    sinks: Sinks
    models: NextModels

    def cameras_with_other_files(self, old: Mapping[Key, str]) -> set[str]:
        """Returns the cameras one of whose files of secrets and certificates has changed."""
        files = self.files
        return {key[1] for key in files if key[0] == "camera" and files[key] != old.get(key)}

    def tell(self, audit: AuditTrail, old: Config) -> None:
        """Adds what was changed to the audit trail."""
        for camera in (None, *(name for name in self.config.camera if name in old.camera)):
            before, after = (_threshold(one, camera) for one in (old, self.config))
            if before != after:
                audit.add("threshold", FILES, old=before, new=after)
        if self.changes:
            audit.add("configuration", FILES, new=f"changed: {self.changes}")


def _threshold(config: Config, camera: str | None) -> str:
    """Writes the threshold in `[model]`, or in a camera's own table."""
    own = config.model if camera is None else config.camera[camera].model
    threshold = own.threshold if own else None
    text = "the model's" if threshold is None else f"{threshold:g}"
    return text if camera is None else f"camera {camera}: {text}"
