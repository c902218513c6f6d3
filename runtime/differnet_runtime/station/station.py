"""A station: everything that `differnet run --config` runs, put together, reloaded and stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from ..cameras.sources import is_live, locate, refuse_commands, refuse_leaving
from ..capture.process import CaptureProcess
from ..config import CameraConfig, Config, differences
from ..config.paths import fingerprints
from ..config.problems import Key
from ..errors import CameraError, StoreError, TeachError
from ..events import StateEvent, Trigger
from ..evidence.store import EvidenceStore
from ..files import TakenError, lock_folder
from ..labels import FILE as LABELS
from ..labels import LabelDatabase
from ..models.store import StoredModel
from ..outbox.delivery import EventDelivery, UnopenedSinks
from ..outbox.outbox import PictureLog
from ..processes import return_memory
from ..records import Frame
from ..sentences import sentence
from ..service import Service, stop_all
from ..teaching.teaching import Teaching
from ..text import instead
from ..web.audit import FILES, AuditTrail, switching
from ..web.control import Control
from ..web.live import RecentEvents
from ..web.views import StateView
from . import health
from .camera_loop import CameraLoop, PictureQueue, remembered
from .judging import FrameJudge, TriggerCommand
from .labelling import Labelling
from .metrics import Metrics
from .model_set import NextModels, StationModels
from .models import StationModel
from .reporting import Reporter
from .shadows import Shadows

STOP_S = 4.5
"""Time for all parts together to stop, in seconds."""
_PIPELINE_S = 6.0
"""Additional time for a pipeline that hangs, so that it gives its sensor back."""
_LAST_ANSWER_S = 0.2
"""Time for the answer to a frame whose engine had to be stopped."""
_CALM = ("ok", "starting", "removed")

log = logging.getLogger(__name__)


class Station:
    """Owns every part of a station; the parts know nothing of each other.

    Args:
        config: Configuration of the station, as `load_config` checked it.
        models: Root of the model store; None for the device's.

    Raises:
        ConfigError: A secret can't be read, or the store has no such model.
        ModelFileError: The model file can't be used.
        StoreError: Another station uses the state folder.

    Example:
        >>> station = Station(load_config(Path("line.toml")).config)  # doctest: +SKIP
        >>> station.start()  # doctest: +SKIP
        >>> station.stop()  # doctest: +SKIP
    """

    def __init__(self, config: Config, models: Path | None = None) -> None:
        _refuse_commands(config)
        state = config.station.state
        self._files: Mapping[Key, str] = fingerprints(config)
        self._lock = _locked(state)
        self._changing, self._stopping = threading.Lock(), False
        self.config = config
        self.configuration_problem: str | None = None
        """Why the last reload was refused; None if it was not."""
        self.started_at_s, self._started = time.time(), time.monotonic()
        # What the page sees
        self.recent = RecentEvents()
        self.labelling = Labelling(self, LabelDatabase(state / LABELS))
        self.control = Control(self)
        self.metrics = Metrics(self.control.overview)
        # What judges
        audited = partial(switching, self.control, "activate", FILES)
        self.models = StationModels(config, self._tell_model, models, audited, self._begin)
        self.shadows = self.models.trials = Shadows(self)
        self.cameras: dict[str, CameraLoop] = {}
        # What becomes of verdicts
        self.results = EventDelivery(config, self._files, self._commanded)
        labelled = self.labelling.store.ids
        self.evidence = EvidenceStore(state / "evidence", config.evidence, labelled)
        self.reporter = Reporter(self.results.outbox, self.evidence, self.recent, self.metrics)
        self.reporter.decision = config.decision
        self.teaching = self.reporter.teaching = Teaching(StationSite(self))

    def start(self) -> None:
        """Starts everything; waits for no camera, broker or engine."""
        self.results.start()
        self.evidence.start()
        self.models.start()
        self.teaching.start()
        for name, camera in self.config.camera.items():
            self._open(name, camera)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops everything within the time, whatever hangs: cameras, engines, results.

        A frame that is being judged gets its verdict, or NO_DECISION with the code `stopped` if
        the engine takes too long.
        """
        self._stopping, until = True, time.monotonic() + timeout_s
        stop_all(self.cameras.values(), 0.4 * timeout_s)
        self.shadows.stop_all(_LAST_ANSWER_S)
        self.teaching.stop(0.1 * timeout_s)
        self.models.stop(0.2 * timeout_s)
        stop_all(self.cameras.values(), _LAST_ANSWER_S)
        self.evidence.stop(max(0.2, (until - time.monotonic()) / 2))
        self.results.stop(max(0.2, until - time.monotonic()))
        stop_all(self.cameras.values(), _PIPELINE_S)
        self.labelling.book.close()
        if self._lock is not None:
            self._lock.close()

    @property
    def uptime_s(self) -> float:
        """Seconds since the start, by the monotonic clock."""
        return time.monotonic() - self._started

    def live(self) -> bool:
        """Returns whether every thread makes progress; one that hangs or died needs a restart."""
        services: list[Service] = [*self.cameras.values(), *self.models.all, self.evidence]
        return self.results.alive and all(service.alive for service in services)

    def states(self) -> dict[str, StateView]:
        """Returns the state of every component, by its name."""
        return health.states_of(self)

    def inspecting(self, states: Mapping[str, StateView]) -> list[str]:
        """Returns the cameras whose parts get verdicts now; see `health.inspecting`."""
        return health.inspecting(self, states)

    def tell(self, component: str, state: str, reason: str | None) -> None:
        """Sends a change of a component's state, and logs it."""
        why = f" ({reason})" if reason else ""
        calm = state in _CALM
        log.log(logging.INFO if calm else logging.WARNING, "%s: %s%s", component, state, why)
        if not calm:
            self.metrics.fault(component, state)
        self.results.outbox.add(
            StateEvent(
                station=self.config.station.name, component=component, state=state, reason=reason
            )
        )

    def ask(self, camera: str, part: str | None, trigger: Trigger, sender: str) -> TriggerCommand:
        """Asks a camera for a verdict on the part in front of it; see `CameraLoop.ask`.

        Raises:
            CameraError: There is no such camera, or it runs free.
            TooManyCommandsError: It takes no more commands now.
        """
        loop = self.cameras.get(camera)
        if loop is None:
            raise CameraError(f"there is no camera {camera!r}; {instead(camera, self.cameras)}")
        if loop.config.trigger != "command":
            raise CameraError(sentence("runs_free", camera=camera))
        return loop.ask(part, trigger, sender)

    def _commanded(self, camera: str, part: str | None) -> None:
        try:
            self.ask(camera, part, "mqtt", "mqtt")
        except CameraError as error:
            if camera in self.cameras:  # somebody waits for a verdict on that part
                self.cameras[camera].refuse(part, "mqtt", str(error))
            raise

    def _tell_model(self, component: str, state: str, reason: str) -> None:
        self.tell(component, state, reason)
        self.shadows.review()

    def _open(self, name: str, config: CameraConfig) -> None:
        model = self.models.of(name)
        assert model is not None, "every camera of a configuration has one"
        loop = self._loop(name, config, model)
        model.callers[name] = loop.lies_there
        self.reporter.open(name, config)
        loop.start()
        self.cameras = {**self.cameras, name: loop}

    def _loop(self, name: str, config: CameraConfig, model: StationModel) -> CameraLoop:
        own, source = self.config.station.name, locate(config)
        pictures = None if is_live(source) else PictureLog(self.results.outbox, name, source.source)
        known = None if pictures is None else remembered(pictures, config)
        capture = CaptureProcess(name, config, known)
        thresholds = self.labelling.thresholds
        judge = FrameJudge(own, name, config, model.switch, thresholds, live=capture.live)
        waiting = None
        if pictures is not None:
            waiting = PictureQueue(config, capture, judge, pictures)
        return CameraLoop(name, config, capture, judge, self.reporter.report, waiting)

    def _close(self, names: list[str]) -> None:
        """Stops cameras, all at the same time."""
        closed = [self.cameras[name] for name in names]
        self.cameras = {name: loop for name, loop in self.cameras.items() if name not in names}
        stop_all(closed)
        for name in names:
            self.reporter.close(name)
            for model in self.models.all:
                model.callers.pop(name, None)

    def _begin(self, model: StationModel) -> None:
        """Reopens folders and videos: the first model judges what was only shown before."""
        with self._changing:
            if self._stopping:
                return
            names = [
                name
                for name, loop in self.cameras.items()
                if not is_live(locate(loop.config)) and self.models.of(name) is model
            ]
            self._close(names)
            for name in names:
                self._open(name, self.config.camera[name])

    def prepare(self, new: Config) -> Renewal:
        """Reads and checks everything that another configuration needs; changes nothing.

        Raises:
            ConfigError: It can't be used, for example because a secret can't be read.
            ModelFileError: One of its model files can't be used.
        """
        _refuse_commands(new)
        files = fingerprints(new)
        changes = differences(self.config, new, self._files, files)
        sinks, models = self.results.prepare(new, files), self.models.prepare(new)
        return Renewal(new, files, changes, sinks, models)

    def reconfigure(self, renewal: Renewal) -> None:
        """Changes to another configuration; parts that stay the same are not touched."""
        new = renewal.config
        with self._changing:
            old = self.config
            self.results.use(renewal.sinks)
            before = {name: self.models.of(name) for name in self.cameras}
            unused = self.models.use(renewal.models)
            self.results.outbox.config = new.events
            self.evidence.config = new.evidence
            self.reporter.decision = new.decision
            renewed = renewal.cameras_with_other_files(self._files)
            self._close([n for n in self.cameras if n in renewed or self._other(n, new, before[n])])
            self.config, self._files = new, renewal.files
            for name, camera in new.camera.items():
                if name not in self.cameras:
                    self._open(name, camera)
            stop_all(unused)
        self.shadows.review()
        self.teaching.renew()
        renewal.tell(self.control.audit, old)

    def _other(self, camera: str, new: Config, model: StationModel | None) -> bool:
        """Whether a camera must be reopened; another threshold is no reason."""
        config, own = new.camera.get(camera), {"model": None}
        if config is None or self.models.of(camera) is not model:
            return True
        before = self.config.camera[camera]
        return before.model_copy(update=own) != config.model_copy(update=own)


@dataclass(frozen=True)
class Renewal:
    """Everything that a station needs to change to another configuration; not in use yet.

    Args:
        config: The new configuration of the station.
        files: Fingerprints of its files of secrets and certificates.
        changes: What differs from the old configuration, in words; see `config.differences`.
        sinks: The sinks that change.
        models: The models that it names.
    """

    config: Config
    files: Mapping[Key, str]
    changes: tuple[str, ...]
    sinks: UnopenedSinks
    models: NextModels

    def cameras_with_other_files(self, old: Mapping[Key, str]) -> set[str]:
        """Returns the cameras with a changed file of secrets or certificates."""
        files = self.files
        return {key[1] for key in files if key[0] == "camera" and files[key] != old.get(key)}

    def tell(self, audit: AuditTrail, old: Config) -> None:
        """Adds the changes to the audit trail."""
        for camera in (None, *(name for name in self.config.camera if name in old.camera)):
            before, after = (_threshold(one, camera) for one in (old, self.config))
            if before != after:
                audit.add("threshold", FILES, old=before, new=after)
        if self.changes:
            audit.add("configuration", FILES, new=f"changed: {', '.join(self.changes)}")


def _threshold(config: Config, camera: str | None) -> str:
    """Writes the threshold in `[model]`, or in a camera's own table."""
    own = config.model if camera is None else config.camera[camera].model
    threshold = own.threshold if own else None
    text = "the model's" if threshold is None else f"{threshold:g}"
    return text if camera is None else f"camera {camera}: {text}"


def _locked(state: Path) -> IO[str] | None:
    """Locks the state folder; one that can't be written does not prevent inspection."""
    try:
        return lock_folder(state)
    except TakenError:
        raise
    except StoreError as error:
        log.warning("%s", error)
        return None


def _refuse_commands(config: Config) -> None:
    for name, camera in config.camera.items():
        refuse_commands(name, camera)
        refuse_leaving(name, camera)


class StationSite:
    """Answers teaching from the station's parts; implements `teaching.Site`.

    Args:
        station: The station; may still be under construction.
    """

    def __init__(self, station: Station) -> None:
        self._station = station

    @property
    def config(self) -> Config:
        """See `Site.config`."""
        return self._station.config

    def live(self, camera: str) -> bool:
        """See `Site.live`."""
        config = self.config.camera.get(camera)  # a reload removes it
        return config is not None and is_live(locate(config))

    def obstacle(self, camera: str, name: str) -> str | None:
        """See `Site.obstacle`."""
        model = self._station.models.of(camera)
        if model is None or model.config.store is not None:
            return None
        code = "teach_model_file" if model.config.path else "teach_no_store"
        return sentence(code, key=model.planned.key, camera=camera, name=name)

    def frame(self, camera: str) -> Frame | None:
        """See `Site.frame`."""
        return self._station.reporter.of(camera).picture.frame

    def on_gpu(self, camera: str) -> bool:
        """See `Site.on_gpu`."""
        backend = self._model(camera).switch.engine.status.backend or "cpu"
        return "cpu" not in backend and not backend.startswith("fake")

    def add_model(self, camera: str, name: str, path: Path) -> StoredModel:
        """See `Site.add_model`."""
        try:
            return self._model(camera).add(path, name)
        finally:
            return_memory()  # of reading the file

    def _model(self, camera: str) -> StationModel:
        model = self._station.models.of(camera)
        if model is None:  # a reload removes it
            raise TeachError(sentence("camera_gone", camera=camera))
        return model
