"""Reads a station's configuration, one TOML file and its drop-ins, and says what follows from it.

`line3.toml` is read first, then `line3.d/*.toml` in the order of their names. Tables merge key by
key, a later file wins, arrays are replaced. A relative path is relative to the folder of the file
that names it. Passwords, tokens and certificates are looked for in systemd's
`$CREDENTIALS_DIRECTORY` first. Files that other users of the machine could change are refused.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError
from .models import Config, ModelConfig
from .paths import resolve
from .problems import Key, dotted, in_words

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - JetPack 6's Python
    import tomli as tomllib

LARGEST = 1 << 20
"""Bytes of a file; a station's configuration has a few thousand."""
DEEPEST = 20
"""Levels of nested tables; a station's configuration has four."""
_PASSWORD = re.compile(r"://[^/@:]*:.+@")


@dataclass(frozen=True)
class Loaded:
    """A configuration that was read.

    Args:
        config: The checked configuration; its paths are absolute.
        files: The files that it was read from, in that order.
        warnings: What works, but deserves a look.

    Example:
        >>> load_config(Path("line3.toml")).config.station.name  # doctest: +SKIP
        'line3'
    """

    config: Config
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def load_config(path: Path) -> Loaded:
    """Reads `path`, and the drop-ins `*.toml` in the folder of the same name that ends in `.d`.

    Raises:
        ConfigError: A file can't be read or is not TOML, other users can change it, a key is
            unknown or a value wrong. The message has a line for each problem, with file and key.
    """
    path = path.absolute()
    merged = _Merged(path)
    merged.add(_read(path), path)
    drop_ins = _drop_ins(path)
    for file in drop_ins:
        merged.add(_read(file), file)
    resolve(merged.table, merged.origin)
    try:
        # As JSON: pydantic's strict mode then refuses "640" as a number, but takes text as a path.
        config = Config.model_validate_json(json.dumps(merged.table), strict=True)
    except ValidationError as error:
        # Not "from error": pydantic's own text shows the values, passwords among them.
        raise ConfigError(in_words(error, merged.origin)) from None
    files = (path, *drop_ins)
    return Loaded(config, files, tuple(_warnings(config, files)))


class _Merged:
    """The tables of all files merged into one, and the file that set each key."""

    def __init__(self, first: Path) -> None:
        self.table: dict[str, Any] = {}
        self._origins: dict[Key, Path] = {(): first}

    def add(self, table: dict[str, Any], file: Path) -> None:
        """Merges the tables of one more file into `table`."""
        self._merge(self.table, table, (), file)

    def origin(self, key: Key) -> Path:
        """Returns the file that last set a key, or the table around it."""
        while key not in self._origins:
            key = key[:-1]
        return self._origins[key]

    def _merge(self, into: dict[str, Any], table: dict[str, Any], at: Key, file: Path) -> None:
        for name, value in table.items():
            key = (*at, name)
            self._origins[key] = file
            if not isinstance(value, dict):
                into[name] = value
                continue
            if not isinstance(into.get(name), dict):
                into[name] = {}
            self._merge(into[name], value, key, file)


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
        raise ConfigError(
            f"{file}: can't be read: {getattr(error, 'strerror', None) or error}."
        ) from error
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
    _refuse_odd(table, (), file)
    return table


def _refuse_odd(value: Any, key: Key, file: Path) -> None:  # noqa: ANN401 - whatever TOML holds
    """Refuses values that TOML allows and no key accepts."""
    if len(key) > DEEPEST:
        raise ConfigError(f"{file}: {dotted(key[:3])}: is nested deeper than {DEEPEST} tables.")
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else (("[]", item) for item in value)
        for name, item in items:
            _refuse_odd(item, (*key, name), file)
    elif isinstance(value, str):
        if "\0" in value:
            raise ConfigError(f"{file}: {dotted(key)}: a text may not hold a zero byte.")
    elif not isinstance(value, (bool, int, float)):
        raise ConfigError(f"{file}: {dotted(key)}: received a date or time; no key takes one.")
    elif isinstance(value, int) and abs(value) >= 1 << 63:
        raise ConfigError(f"{file}: {dotted(key)}: received a number beyond 64 bits.")


def refuse_changeable(path: Path, found: os.stat_result) -> None:
    """Refuses a file or folder that users other than root and the station's can change.

    The private group that many systems make for each user is allowed.

    Args:
        path: The file or folder, for the message.
        found: The result of `stat` on it.

    Raises:
        ConfigError: It belongs to another user, or its group or everybody can write to it; the
            message has the command that mends it.
    """
    quoted = shlex.quote(str(path))
    if found.st_uid not in (0, os.geteuid()):
        owner, we = (_name(pwd.getpwuid, user, "user ") for user in (found.st_uid, os.geteuid()))
        raise ConfigError(
            f"{path}: belongs to {owner}, who could change what the station does; only root and "
            f"the station's user ({we}) may own its configuration. Check its content, then run: "
            f"chown root {quoted}"
        )
    everybody = bool(found.st_mode & stat.S_IWOTH)
    group = bool(found.st_mode & stat.S_IWGRP) and not _of_owner_alone(found)
    if everybody or group:
        of_group = f"group {_name(grp.getgrgid, found.st_gid)}"
        raise ConfigError(
            f"{path}: {'every user of this machine' if everybody else of_group} can write to it, "
            "and so change what the station does. Check its content, then run: chmod "
            f"{'g' * group}{'o' * everybody}-w {quoted}"
        )


def _of_owner_alone(found: os.stat_result) -> bool:
    """Says whether the group has the owner's name and no other member."""
    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    return group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}


def _name(look_up: Callable[[int], Sequence[Any]], number: int, kind: str = "") -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return f"{kind}{number}"


def _warnings(config: Config, files: tuple[Path, ...]) -> Iterator[str]:
    """Yields a sentence for each thing that works, but deserves a look."""
    state = config.station.state
    if _mode(state) & stat.S_IRWXO:
        yield (
            f"station.state: every user of this machine can read {state}: `chmod -R o-rwx {state}`"
        )
    urls = {f"camera.{name}.source": camera.source for name, camera in config.camera.items()}
    urls |= {f"webhook.{name}.url": hook.url for name, hook in config.webhook.items()}
    readers = [file for file in files if _mode(file) & stat.S_IROTH]
    advice = f"; {readers[0]} may be read by every user: chmod 640" if readers else ""
    for key, url in urls.items():
        if _PASSWORD.search(url):
            yield f"{key}: holds a password{advice}"
    mqtt = config.mqtt
    if mqtt and mqtt.password_file and not mqtt.tls:
        yield "mqtt: the password travels unencrypted; [mqtt.tls] encrypts"
    for name, hook in config.webhook.items():
        if hook.token_file and hook.url.startswith("http://"):
            yield f"webhook.{name}: the token travels unencrypted; use https://"
    for name, camera in config.camera.items():
        if camera.tls is not None and not camera.tls.verify:
            yield (
                f"camera.{name}: any certificate is accepted (tls.verify = false), so another "
                "machine can take its place"
            )


def _mode(file: Path) -> int:
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except OSError:  # gone since it was read
        return 0


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
                _unique(_model_name(judged_by), {one.name for one in planned}),
                _DEFAULT if source == config.model.source else f"camera.{first}.model",
                judged_by.model_copy(update={"threshold": None}),
                {camera: one.threshold for camera, one in groups[source].items()},
            )
        )
    return tuple(planned)


def _model_name(config: ModelConfig) -> str:
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
