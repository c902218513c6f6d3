"""One model of the station: the engine that judges, and its change to another model under load."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ..config import ModelConfig, PlannedModel
from ..errors import DifferNetError, ModelStoreError
from ..inference.process import AbsentEngine, EngineProcess, ModelSwitch
from ..inference.turns import Callers
from ..models.cards import advice
from ..models.store import ModelStore, StoredModel, default_folder
from ..processes import return_memory
from ..sentences import sentence
from ..service import STOP_S, Service


@dataclass(frozen=True)
class Wanted:
    """What an engine should run, as far as that can be told without reading the model file.

    Args:
        path: The model file; None with a fake backend, and if the store has no model yet.
        stamp: Size and modification time in ns, which tell whether the file was replaced.
        config: `[model]`, or a camera's own; a change of it needs another engine.
    """

    path: Path | None
    stamp: tuple[int, int] | None
    config: ModelConfig

    @classmethod
    def of(cls, path: Path | None, config: ModelConfig) -> Wanted:
        """Returns what a configuration wants with a file, which may be gone."""
        stamp = None
        with contextlib.suppress(OSError):
            if path is not None:
                found = path.stat()
                stamp = (found.st_size, found.st_mtime_ns)
        return cls(path, stamp, config)


_FOLLOW_S = 1.0
log = logging.getLogger(__name__)


class StationModel(Service):
    """Owns the engine of a model; follows the active model of the store, or the model file.

    Args:
        planned: The model and the cameras that it judges.
        tell: Called with a state and a reason after each change and each failure.
        root: Root of the model store; None for the device's.
        audited: Context of each change that follows the store or the file.
        one_change: Lock held while another engine runs beside the one that judges.
        admit: Raises if there is no memory for such an engine; called before it is started.
        begun: Called once a first model judges, if there was none at the start.

    Raises:
        ModelFileError: The file can't be used.

    Example:
        >>> model = StationModel(planned, tell=lambda state, reason: None)  # doctest: +SKIP
        >>> model.start()  # doctest: +SKIP
        >>> with model.switch.lease() as engine: ...  # doctest: +SKIP
    """

    def __init__(
        self,
        planned: PlannedModel,
        tell: Callable[[str, str], None],
        root: Path | None = None,
        audited: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        one_change: AbstractContextManager[object] | None = None,
        admit: Callable[[EngineProcess], None] = lambda _: None,
        begun: Callable[[StationModel], None] = lambda _: None,
    ) -> None:
        super().__init__("model")
        self._plan(planned)
        self._audited, self._begun = audited, begun
        self._one_change, self._admit = one_change or threading.Lock(), admit
        self.problem: str | None = None
        """Why the last change of model failed; None after one that went well."""
        self.callers = Callers()
        """The cameras that it judges."""
        self._tell, self._root = tell, root or default_folder()
        self._changing = threading.Lock()
        self._runs = Wanted.of(self._path(), self.config)
        self._refused: Wanted | None = None
        self._made: weakref.WeakKeyDictionary[EngineProcess, Wanted] = weakref.WeakKeyDictionary()
        self.switch = ModelSwitch(self._engine(self._runs.path), self._another)

    def _plan(self, planned: PlannedModel) -> None:
        self.planned = planned
        self.components = {kind: planned.component(kind) for kind in ("engine", "gpu", "model")}
        """Names of its components in states and events, by their kinds."""

    @property
    def config(self) -> ModelConfig:
        """`[model]`, or a camera's own, as last configured; the engine follows it."""
        return self.planned.config

    def configure(self, planned: PlannedModel) -> None:
        """Takes another plan; a threshold that comes with another model applies once that judges.

        The same holds if the file was replaced, or another model of the store activated. A camera
        that is removed keeps its threshold for its last frames.
        """
        self._plan(planned)
        with contextlib.suppress(DifferNetError):  # `follow` reports it
            self._hand_on_thresholds(self._wanted())

    def _hand_on_thresholds(self, wanted: Wanted) -> None:
        """Applies the plan's thresholds to the engines of the same model file."""
        planned = self.planned  # a reload in another thread replaces it
        for engine, made in list(self._made.items()):
            same = made.config.source == planned.config.source
            if same and (made.path, made.stamp) == (wanted.path, wanted.stamp):
                engine.thresholds = {**engine.thresholds, **planned.thresholds}

    @property
    def store(self) -> ModelStore:
        """The device's model store.

        Raises:
            ModelStoreError: The station runs a file, not a name of the store.
        """
        if self.config.store is None:
            raise ModelStoreError(
                sentence("model_is_file", name=self.planned.name, key=self.planned.key)
            )
        return ModelStore(self._root)

    def add(self, path: Path, name: str) -> StoredModel:
        """Adds a model file to this model's store, without activating it.

        Args:
            path: Path of the model file.
            name: Name in the store, used if this model is a `path` and not from a store.

        Raises:
            ModelFileError: The file is not a model.
            OutputError: The store can't be written.
        """
        return ModelStore(self._root).add(path, self.config.store or name)

    def find(self, model: str) -> StoredModel:
        """Returns a model of the store by its hash; this model's own name comes first.

        Raises:
            ModelStoreError: There is no such model, or there are several.
        """
        store, own = self.store, self.config.store or ""
        return store.find(model, own if store.path_of(own, model).is_file() else None)

    @property
    def alive(self) -> bool:
        """Whether the engine is supervised; its process may be dead."""
        return self.switch.engine.alive

    def start(self) -> None:
        """Starts the engine process, and follows the store."""
        self.switch.engine.start()
        super().start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops the engine process, and a change that is under way."""
        self._stopping.set()
        self.switch.stop(timeout_s)

    def activate(self, model: str) -> None:
        """Changes to a model of the store, by its hash; a model that fails is taken back.

        Raises:
            ModelStoreError: There is no such model, or it does not pass.
            BackendError: It failed under load; the previous one judges again.
        """
        store = self.store
        with self._changing:
            chosen = self.find(model)
            self._change(chosen.path)
            store.activate(chosen.hash, chosen.name, checked=True)

    def rollback(self, reason: str | None = None) -> None:
        """Changes to the model that was active before.

        Raises:
            ModelStoreError: There is no previous model.
            BackendError: It can't be run any more; the present model judges on.
        """
        store, name = self.store, self.config.store or ""
        with self._changing:
            previous = store.previous(name)
            if previous is None:
                raise ModelStoreError(sentence("model_no_previous", name=name))
            self._change(previous)
            store.rollback(name, reason=reason)

    def _run(self) -> None:
        while not self._stopping.wait(_FOLLOW_S):
            try:
                self.follow()
            except Exception as error:  # noqa: PERF203 - the only way to another model
                self._fail(f"{type(error).__name__}: {error}")

    def follow(self) -> None:
        """Changes to the model that the store or the configuration names, if it has changed."""
        with self._changing:
            try:
                wanted = self._wanted()
            except DifferNetError as error:
                self._fail(str(error))
                return
            if wanted == self._runs:
                self._refused = None  # what was taken back may be activated again
                self._hand_on_thresholds(wanted)
            elif wanted.path is None and wanted.config.store is not None:
                self._runs = wanted  # there is still no model
            elif wanted != self._refused:
                self._follow_to(wanted)

    def _follow_to(self, wanted: Wanted) -> None:
        """Changes to another model; one that fails is taken back in the store too."""
        other = wanted.path != self._runs.path
        try:
            with self._audited():
                self._change(wanted.path)
        except DifferNetError as error:
            if self._stopping.is_set():
                return  # it did not fail, it was interrupted
            self._refused = wanted
            name, store = wanted.config.store, ModelStore(self._root)
            # If only a setting changed, the model in the store is not at fault; nor is one that
            # was activated since. A first model has none before it.
            if name is None or not other or store.active(name) != wanted.path:
                return
            if store.previous(name) is not None:
                store.rollback(name, reason=str(error))

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            log.warning("the model can't be changed: %s", problem)
            self._tell("refused", problem)

    def _change(self, path: Path | None) -> None:
        name = "the fake model" if path is None else path.name
        described, first = Wanted.of(path, self.config), self.switch.engine.absent
        try:
            with self._one_change:
                self.switch.to(path)
                return_memory()
        except DifferNetError as error:
            if not self._stopping.is_set():
                self._fail(sentence("model_refused", model=name, why=error))
            raise
        self._runs, self._refused, self.problem = described, None, None
        self._tell("ok", f"{name} judges now")
        if first:
            self._begun(self)

    def _path(self) -> Path | None:
        """Returns the file that should judge; None for a fake backend, or if there is none."""
        if self.config.store is None:
            return self.config.path
        return ModelStore(self._root).active(self.config.store)

    def _advice(self) -> str:
        return advice(self._root, self.config.store or "")

    def _wanted(self) -> Wanted:
        path, name = self._path(), self.config.store
        if path is None and name is not None and not self.switch.engine.absent:
            raise ModelStoreError(f"{self.planned.key}.store: {self._advice()}")
        return Wanted.of(path, self.config)

    def _engine(self, path: Path | None) -> EngineProcess:
        planned, config = self.planned, self.config
        made = Wanted.of(path, config)
        if path is None and config.store is not None:
            engine: EngineProcess = AbsentEngine(
                lambda: sentence("model_absent", why=self._advice())
            )
        else:
            engine = EngineProcess(
                path,
                backend=config.backend,
                threads=config.threads,
                deadline_s=config.deadline_ms / 1e3,
                fallback=config.fallback,
                trusted_keys=config.trusted_keys,
                batch=config.max_batch,
                batch_wait_s=config.batch_wait_ms / 1e3,
                callers=self.callers,
            )
        engine.thresholds = planned.thresholds
        self._made[engine] = made
        return engine

    def _another(self, path: Path | None) -> EngineProcess:
        engine = self._engine(path)
        self._admit(engine)
        return engine
