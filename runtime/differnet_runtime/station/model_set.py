"""All models of a station, each in its own engine, and the memory that they need.

The figures are proportional set sizes: memory that processes share counts once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Config, PlannedModel, planned_models
from ..errors import ConfigError, ModelStoreError
from ..inference.memory import expected_memory
from ..inference.process import NO_METADATA, EngineProcess
from ..model_file.metadata import ModelMetadata
from ..models.store import ModelStore, default_folder
from ..processes import return_memory
from ..sentences import sentence
from ..service import STOP_S, stop_all
from .models import StationModel

if TYPE_CHECKING:
    from .shadows import Shadows


Tell = Callable[[str, str, str], None]


@dataclass(frozen=True)
class NextModels:
    """The models of a configuration that is not in use yet.

    Args:
        by_plan: All models, in the order of the configuration.
        made: The models among them that do not run yet.
        memory_mb: Memory limit for all of them, in MiB; None without a limit.
    """

    by_plan: Mapping[PlannedModel, StationModel]
    made: tuple[StationModel, ...]
    memory_mb: int | None


class StationModels:
    """One `StationModel` for each model that the cameras name.

    Models change one at a time, since a change takes the memory of one more engine.

    Args:
        config: Configuration of the station.
        tell: Called with a component, a state and a reason after each change and each failure.
        root: Root of the model store; None for the device's.
        audited: Context of each change that follows the store or a file.
        begun: Called with a store's first model, once it judges.

    Raises:
        ConfigError: The models need more memory than is allowed.
        ModelFileError: A model file can't be used.
    """

    def __init__(
        self,
        config: Config,
        tell: Tell,
        root: Path | None = None,
        audited: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        begun: Callable[[StationModel], None] = lambda _: None,
    ) -> None:
        self._tell, self._root, self._audited = tell, root or default_folder(), audited
        self._begun = begun
        self._one_change = threading.Lock()
        self.memory_mb = config.station.memory_mb
        """Memory limit for all models together, in MiB; None without a limit."""
        self.trials: Shadows | None = None
        """The trials, which end when live models need their memory."""
        self.all = tuple(map(self._made, planned_models(config)))
        """The models, in the order of the configuration."""
        require_room(self.shares, self.memory_mb)
        warn_of_room(self.shares)

    @property
    def first(self) -> StationModel:
        """The model of `[model]`, or else of the first camera."""
        return self.all[0]

    def of(self, camera: str) -> StationModel | None:
        """Returns the model that judges a camera; None if the configuration has no such camera."""
        return next((model for model in self.all if camera in model.planned.cameras), None)

    @property
    def shares(self) -> list[Share]:
        """The memory that each model needs."""
        return [_share(model.planned, model.switch.engine) for model in self.all]

    def start(self) -> None:
        """Starts the engine processes."""
        return_memory()  # each file was read
        for model in self.all:
            model.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops the engine processes, and a change that is under way."""
        stop_all(self.all, timeout_s)

    def prepare(self, config: Config) -> NextModels:
        """Creates the models that another configuration needs; changes and starts nothing.

        A model that is still named goes on. A model that is no longer named is replaced by the
        model that its cameras name now, and judges until that one has passed.

        Raises:
            ConfigError: The models need more memory than is allowed.
            ModelFileError: A model file can't be used.
        """
        planned = planned_models(config)
        free = list(self.all)
        going_on: dict[str, StationModel] = {}
        for same in (_same_source, _same_cameras):
            for one in planned:
                found = next((model for model in free if same(model.planned, one)), None)
                if one.name not in going_on and found is not None:
                    free.remove(found)
                    going_on[one.name] = found
        made = {one.name: self._made(one) for one in planned if one.name not in going_on}
        models = {one: (going_on | made)[one.name] for one in planned}
        shares = [_share(one, model.switch.engine) for one, model in models.items()]
        require_room(shares, config.station.memory_mb)
        return NextModels(models, tuple(made.values()), config.station.memory_mb)

    def use(self, models: NextModels) -> tuple[StationModel, ...]:
        """Changes to the models of another configuration.

        Returns:
            The models that no camera needs any more, to be stopped once the cameras have changed.
        """
        self.memory_mb = models.memory_mb
        for planned, model in models.by_plan.items():
            if model not in models.made:
                model.configure(planned)
        for model in models.made:
            model.start()
        before, self.all = self.all, tuple(models.by_plan.values())
        self._make_room()
        return tuple(model for model in before if model not in self.all)

    def activate(self, model: str, name: str | None = None) -> None:
        """Changes to a model of the store; see `StationModel.activate`.

        Args:
            model: Content hash of the model.
            name: Name of the model in the store; needed if this station uses it under several.

        Raises:
            ModelStoreError: There is no such model, or no camera is judged by models of its name.
            BackendError: It failed under load; the previous one judges again.
        """
        stores = self._stores()
        store = ModelStore(self._root)
        there = [one for one in stores if store.path_of(one, model).is_file()]
        chosen = store.find(model, name or (there[0] if len(there) == 1 else None))
        if chosen.name not in stores:
            known = ", ".join(map(repr, stores))
            raise ModelStoreError(
                sentence("model_other_name", model=model, name=chosen.name, known=known)
            )
        stores[chosen.name].activate(model)

    def rollback(self, name: str | None = None, reason: str | None = None) -> None:
        """Changes to the model that was active before.

        Args:
            name: Name in the store; None if the station uses only one name of the store.
            reason: Reason for the store's history.

        Raises:
            ModelStoreError: There is no previous model, or the station uses several names.
            BackendError: It can't be run any more; the present model judges on.
        """
        stores = self._stores()
        if name is None and len(stores) > 1:
            raise ModelStoreError(sentence("model_which", names=", ".join(stores)))
        name = name or next(iter(stores))
        if name not in stores:
            raise ModelStoreError(sentence("model_not_used", name=name, names=", ".join(stores)))
        stores[name].rollback(reason)

    def _stores(self) -> dict[str, StationModel]:
        """Returns the models from the store, by their name there; at least one."""
        found = {one.config.store: one for one in self.all if one.config.store is not None}
        if not found:
            _ = self.first.store  # says what is to be configured
        return found

    def _made(self, planned: PlannedModel) -> StationModel:
        tell = partial(self._tell, planned.component("model"))
        return StationModel(
            planned, tell, self._root, self._audited, self._one_change, self._admit, self._begun
        )

    def _admit(self, engine: EngineProcess) -> None:
        try:
            require_room(self.shares, self.memory_mb, engine.expected_memory)
        except ConfigError as error:
            raise ModelStoreError(str(error)) from error
        self._make_room(engine.expected_memory)

    def _make_room(self, another: int = 0) -> None:
        """Ends the trials if live models need their memory."""
        if self.trials is None:
            return
        try:
            require_room([*self.shares, *self.trials.shares()], self.memory_mb, another)
        except ConfigError:
            self.trials.give_way()


def _share(planned: PlannedModel, engine: EngineProcess) -> Share:
    if engine.absent:
        return share_without_model(planned)
    return share_of(planned, engine.metadata, engine.model.file_bytes)


def _same_source(before: PlannedModel, after: PlannedModel) -> bool:
    return before.config.source == after.config.source


def _same_cameras(before: PlannedModel, after: PlannedModel) -> bool:
    """Whether one replaces the other: as `[model]`, or for a camera that both judge."""
    return before.key == after.key or bool({*before.cameras} & {*after.cameras})


MIB = 1 << 20
_STATION = 65 * MIB
"""The station's own process, with its results and its page."""
_CAPTURE = 35 * MIB
_FRAMES = 8
"""Frames of a camera in its shared memory and in the station."""
_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """The memory that a model needs.

    Args:
        name: Name of the model in the station.
        engine: Bytes of its engine process on the CPU; a GPU's libraries take more.
        captures: Bytes of its cameras' capture processes.
    """

    name: str
    engine: int
    captures: int


def share_without_model(planned: PlannedModel) -> Share:
    """Returns what a model that does not exist yet needs: only its cameras' memory."""
    return replace(share_of(planned, NO_METADATA, 0), engine=0)


def share_of(planned: PlannedModel, metadata: ModelMetadata, file_bytes: int) -> Share:
    """Returns what a model needs.

    Args:
        planned: The model, and the cameras that it judges.
        metadata: Metadata of the model file.
        file_bytes: Size of the model file.
    """
    sizes, contract = metadata.picture_sizes, metadata.input
    height, width = (sizes.height[1], sizes.width[1]) if sizes else contract.shape[:2]
    capture = _CAPTURE + _FRAMES * height * width * 3
    return Share(
        planned.name,
        expected_memory(metadata, file_bytes, planned.config.max_batch or 1),
        capture * len(planned.cameras),
    )


def total_bytes(shares: Sequence[Share]) -> int:
    """Returns the bytes that the station takes while it judges."""
    return _STATION + sum(share.engine + share.captures for share in shares)


def changing_bytes(shares: Sequence[Share]) -> int:
    """Returns the bytes that it takes while the largest model changes, with two of its engines."""
    return total_bytes(shares) + max((share.engine for share in shares), default=0)


def describe(shares: Sequence[Share]) -> str:
    """Returns the parts of `total_bytes` in words."""
    captures = sum(share.captures for share in shares)
    engines = ", ".join(f"{share.name} {mib(share.engine)}" for share in shares)
    return f"station {mib(_STATION)}, captures {mib(captures)}, engines {engines}"


def mib(count: int) -> str:
    """Formats bytes as MiB."""
    return f"{count / MIB:.0f} MiB"


def machine_bytes() -> int | None:
    """Returns the bytes that this process may take: the machine's, or its control group's limit."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        kib = next(line.split()[1] for line in _MEMINFO.read_text().splitlines() if "Total" in line)
        found.append(int(kib) << 10)
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max": no bound
        found.append(int(_CGROUP.read_text()))
    return min(found, default=None)


def require_room(
    shares: Sequence[Share],
    limit_mb: int | None,
    another: int = 0,
    *,
    of_the_machine: bool = False,
) -> None:
    """Refuses models that need more than `[station] memory_mb`, if that is given.

    Args:
        shares: Needs of all models.
        limit_mb: Limit in MiB; None without a limit.
        another: Bytes of an engine that runs beside them during a change.
        of_the_machine: Whether the machine's memory is the limit if none is given.

    Raises:
        ConfigError: The models need more.
    """
    needed = total_bytes(shares) + another
    change = f", another during the change {mib(another)}" if another else ""
    text, all_mib = describe(shares) + change, mib(needed)
    if limit_mb is not None and needed > limit_mb * MIB:
        raise ConfigError(sentence("model_no_room", needed=all_mib, shares=text, allowed=limit_mb))
    there = machine_bytes() if of_the_machine and limit_mb is None else None
    if there is not None and needed > there:
        raise ConfigError(
            sentence("machine_no_room", needed=all_mib, shares=text, there=mib(there))
        )


def warn_of_room(shares: Sequence[Share]) -> None:
    """Logs a warning if the models need more memory than the machine has."""
    there, needed = machine_bytes(), total_bytes(shares)
    if there is not None and needed > there:
        log.warning("the models need %s, but this machine has only %s", mib(needed), mib(there))
