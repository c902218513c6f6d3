"""Reading a station's configuration: one TOML file, and the drop-ins beside it.

`line3.toml` is read first, then `line3.d/*.toml` in the order of their names. Tables merge key by
key, a later file wins, arrays are replaced. A relative path belongs to the file that names it: its
folder is put before it. Passwords, tokens and certificates are looked for in systemd's
`$CREDENTIALS_DIRECTORY` first.

What is allowed in a configuration, but should be looked at.

What differs between two configurations, so that a reload touches only that.

Refuses a configuration that other users of the machine could change.

Which models a station runs, and which cameras each of them judges.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shlex
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError
from .models import Config, ModelConfig
from .paths import resolve
from .problems import Key, dotted, in_words, schema

_PASSWORD = re.compile(r"://[^/@:]*:.+@")


def warnings_of(config: Config, files: tuple[Path, ...]) -> tuple[str, ...]:
    """Returns a sentence for each thing that works, but should be looked at."""
    found: list[str] = []
    state = config.station.state
    if _mode(state) & stat.S_IRWXO:
        found.append(
            f"station.state: every user of this machine can read {state}: `chmod -R o-rwx {state}`"
        )
    urls = [(f"camera.{name}.source", camera.source) for name, camera in config.camera.items()]
    urls += [(f"webhook.{name}.url", hook.url) for name, hook in config.webhook.items()]
    readers = [file for file in files if _mode(file) & stat.S_IROTH]
    for key, url in urls:
        if _PASSWORD.search(url):
            files_say = f"; {readers[0]} may be read by every user: chmod 640" if readers else ""
            found.append(f"{key}: holds a password{files_say}")
    mqtt = config.mqtt
    if mqtt and mqtt.password_file and not mqtt.tls:
        found.append("mqtt: the password travels unencrypted; [mqtt.tls] encrypts")
    found += [
        f"webhook.{name}: the token travels unencrypted; use https://"
        for name, hook in config.webhook.items()
        if hook.token_file and hook.url.startswith("http://")
    ]
    found += [
        f"camera.{name}: any certificate is accepted (tls.verify = false), so another machine can "
        "take its place"
        for name, camera in config.camera.items()
        if camera.tls is not None and not camera.tls.verify
    ]
    return tuple(found)


def _mode(file: Path) -> int:
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except OSError:  # gone since it was read
        return 0


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


def refuse_changeable(path: Path, found: os.stat_result) -> None:
    """Refuses a file or folder that others than root and this process's user can change.

    A group that is its owner's own, as many systems make one for each user, is no other.

    Args:
        path: For the message.
        found: What `stat` says of it.

    Raises:
        ConfigError: It belongs to somebody else, or its group or everybody can write to it; the
            message has the command that mends it.
    """
    quoted = shlex.quote(str(path))
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path}: belongs to {_user(found.st_uid)}, who could change what the station does; "
            f"only root and the station's user ({_user(os.geteuid())}) may own its configuration. "
            f"Check its content, then run: chown root {quoted}"
        )
    everybody = bool(found.st_mode & stat.S_IWOTH)
    group = bool(found.st_mode & stat.S_IWGRP) and not _of_owner_alone(found)
    if everybody or group:
        who = "every user of this machine" if everybody else f"group {_group(found.st_gid)}"
        which = "g" * group + "o" * everybody
        raise ConfigError(
            f"{path}: {who} can write to it, and so change what the station does. Check its "
            f"content, then run: chmod {which}-w {quoted}"
        )


def _of_owner_alone(found: os.stat_result) -> bool:
    """Whether the group is called as the owner, and has no other member."""
    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    return group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


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


if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - JetPack 6's Python
    import tomli as tomllib

__all__ = ["Changes", "Loaded", "differences", "load_config", "schema"]

LARGEST = 1 << 20
"""Bytes of a file; a station's configuration has a few thousand."""
DEEPEST = 20
"""Tables within tables; ours go four deep."""


@dataclass(frozen=True)
class Loaded:
    """A configuration that was read.

    Args:
        config: Checked; its paths are absolute.
        files: Those it came from, in the order in which they were read.
        warnings: What works, but should be looked at.
    """

    config: Config
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def load_config(path: Path) -> Loaded:
    """Reads `path` and the drop-ins `*.toml` of the folder with its name and the suffix `.d`.

    Raises:
        ConfigError: A file can't be read or is not TOML, others can change it or the drop-ins'
            folder, or a key is unknown or its value wrong; the message names file and key, a line
            for each problem.
    """
    path = path.absolute()
    merged = _Merged(path)
    merged.add(_read(path), path)
    drop_ins = _drop_ins(path)
    for file in drop_ins:
        merged.add(_read(file), file)
    resolve(merged.table, merged.origin)
    try:
        # As JSON, since pydantic's strict mode takes "640" for no number, but a text for a path.
        config = Config.model_validate_json(json.dumps(merged.table), strict=True)
    except ValidationError as error:
        # Not "from error": pydantic's own text shows the values, passwords among them.
        raise ConfigError(in_words(error, merged.origin)) from None
    files = (path, *drop_ins)
    return Loaded(config, files, warnings_of(config, files))


class _Merged:
    """The files' tables as one, and which file set each key."""

    def __init__(self, first: Path) -> None:
        self.table: dict[str, Any] = {}
        self._first = first
        self._origins: dict[Key, Path] = {}

    def add(self, table: dict[str, Any], file: Path) -> None:
        self._merge(self.table, table, (), file)

    def origin(self, key: Key) -> Path:
        """Returns the file that last said something of a key, or of the table around it."""
        while key:
            if key in self._origins:
                return self._origins[key]
            key = key[:-1]
        return self._first

    def _merge(self, into: dict[str, Any], table: dict[str, Any], at: Key, file: Path) -> None:
        for name, value in table.items():
            key = (*at, name)
            self._origins[key] = file
            if isinstance(value, dict):
                if not isinstance(into.get(name), dict):
                    into[name] = {}
                self._merge(into[name], value, key, file)
            else:
                into[name] = value


def _drop_ins(path: Path) -> list[Path]:
    folder = path.with_suffix(".d")
    try:
        if not folder.is_dir():
            return []
        refuse_changeable(folder, folder.stat())
        found = [file for file in folder.iterdir() if file.suffix == ".toml"]
    except OSError as error:
        raise ConfigError(f"{folder}: can't be listed: {error.strerror or error}.") from error
    return sorted(file for file in found if not file.name.startswith("."))


def _read(file: Path) -> dict[str, Any]:
    """Reads one file's tables."""
    try:
        with file.open("rb") as opened:
            refuse_changeable(file, os.fstat(opened.fileno()))
            data = opened.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        cause = getattr(error, "strerror", None) or error
        raise ConfigError(f"{file}: can't be read: {cause}.") from error
    if len(data) > LARGEST:
        raise ConfigError(f"{file}: is larger than {LARGEST} bytes; no configuration is.")
    try:
        table = tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}: line {line} is not UTF-8, as TOML must be.") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: is nested too deep.") from error
    except ValueError as error:  # tomllib's own, and Python's limit of an integer's digits
        raise ConfigError(f"{file}: is not TOML: {error}.") from error
    _plain(table, (), file)
    return table


def _plain(value: Any, key: Key, file: Path) -> None:  # noqa: ANN401 - whatever TOML holds
    """Refuses what TOML can hold and no key takes."""
    if len(key) > DEEPEST:
        raise ConfigError(f"{file}: {dotted(key[:3])}: is nested deeper than {DEEPEST} tables.")
    if isinstance(value, dict):
        for name, item in value.items():
            _plain(item, (*key, name), file)
    elif isinstance(value, list):
        for item in value:
            _plain(item, (*key, "[]"), file)
    elif isinstance(value, str):
        if "\0" in value:
            raise ConfigError(f"{file}: {dotted(key)}: a text may not hold a zero byte.")
    elif not isinstance(value, (bool, int, float)):
        raise ConfigError(f"{file}: {dotted(key)}: received a date or time; no key takes one.")
    elif isinstance(value, int) and abs(value) >= 1 << 63:
        raise ConfigError(f"{file}: {dotted(key)}: received a number beyond 64 bits.")
