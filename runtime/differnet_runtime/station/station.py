"""A station: everything that `differnet run --config` runs, started, watched, reloaded, stopped.

Whether a station that wants a GPU runs on one.

The state of every component of a station, and whether all its stages are alive.

Puts together what gives a camera's frames their verdicts.

What teaching may ask of the station.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO

from ..backends.selection import AUTO, ORT_CPU
from ..cameras.sources import is_live, locate, refuse_commands, refuse_leaving
from ..capture.process import CaptureProcess
from ..config import CameraConfig, Config, ModelConfig, differences
from ..config.paths import fingerprints
from ..config.problems import Key
from ..errors import CameraError, StoreError, TeachError
from ..events import InspectionEvent, StateEvent, Trigger
from ..evidence.store import EvidenceStore
from ..files import TakenError, lock_folder
from ..gpu import nvidia_gpu
from ..inference.messages import EngineState, EngineStatus
from ..labels import FILE as LABELS
from ..labels import LabelDatabase
from ..models.store import StoredModel
from ..outbox.outbox import PartLog, PictureLog
from ..processes import return_memory
from ..records import Frame
from ..sentences import sentence
from ..teaching.teaching import Teaching
from ..text import instead
from ..web.audit import FILES, switching
from ..web.views import RecentEvents
from .camera_loop import CameraLoop, Report
from .control import StationControl
from .health import CONFIGURATION, State, camera_state, engine_state, problem_state, sink_state
from .judging import FrameJudge, JudgedFrame, TriggerCommand
from .labelling import Labelling
from .metrics import Metrics
from .model_set import StationModels
from .models import StationModel
from .picture_queue import PictureQueue, remembered
from .reporting import CameraBoards, EventDelivery, Renewal, Reporter
from .shadows import Shadows


def gpu_state(config: ModelConfig, status: EngineStatus, component: str = "gpu") -> State:
    """Judges a station that the CPU serves although its machine has a GPU.

    Nobody would notice: `auto` goes on with the CPU, and verdicts only come later. Where `backend`
    names the CPU that is wanted; a fallback from a backend that was named is the engine's state.

    Args:
        config: `[model]`, or a camera's.
        status: Of its engine.
        component: Name of the state.
    """
    present = nvidia_gpu()
    ready = status.state is EngineState.READY and not status.fallback
    if config.backend != AUTO or not present or not ready or status.backend != ORT_CPU:
        return State(component)
    why = "; ".join(f"{name}: {reason}" for name, reason in status.reasons.items())
    return State(
        component,
        "degraded",
        sentence("gpu_unused", gpu=present, why=why, cpu=ORT_CPU),
    )


def states_of(station: Station) -> dict[str, State]:
    """Returns the state of every component, by its name."""
    cameras, config = station.cameras, station.config
    alarms, results = station.reporter.alarms, station.results
    found = [camera_state(name, loop.status) for name, loop in cameras.items()]
    for model in station.models:
        status, name = model.switch.engine.status, model.planned.component
        found.append(engine_state(status, name("engine")))
        found.append(gpu_state(model.config, status, name("gpu")))
        found.append(problem_state(name("model"), model.problem))
    working = inspecting(station, {state.component: state for state in found})
    found += [
        alarms.state(camera, loop.config, config.decision, explained=camera not in working)
        for camera, loop in cameras.items()
    ]
    after_s = config.events.degraded_after_s
    found += [sink_state(one.status, after_s) for one in results.deliveries]
    found.append(problem_state("outbox", results.outbox.status.problem))
    found.append(problem_state("evidence", station.evidence.status.problem))
    found.append(problem_state("labels", station.labelling.book.problem))
    found.append(problem_state(CONFIGURATION, station.configuration_problem))
    return {state.component: state for state in found}


def goes_on(station: Station) -> bool:
    """Returns whether every stage goes on: what hangs or has died asks for a restart."""
    results = station.results
    return (
        all(loop.live for loop in station.cameras.values())
        and all(model.switch.engine.alive for model in station.models)
        and station.evidence.alive
        and results.outbox.alive
        and all(delivery.alive for delivery in results.deliveries)
    )


def inspecting(station: Station, states: Mapping[str, State]) -> list[str]:
    """Returns the cameras whose parts get verdicts now.

    Args:
        station: The station.
        states: States by component; those of the cameras and engines must be among them.
    """
    return [name for name in station.cameras if _inspects(station, name, states)]


def _inspects(station: Station, camera: str, states: Mapping[str, State]) -> bool:
    model = station.models.of(camera)
    if model is None:  # a reload removes it
        return False
    needed = (states.get(f"camera:{camera}"), states.get(model.planned.component("engine")))
    return all(state is not None and not state.stops for state in needed)


def camera_loop(
    station: Station, name: str, config: CameraConfig, model: StationModel, report: Report
) -> CameraLoop:
    """Returns a camera's loop with its capture process; neither is started.

    Args:
        station: The station, whose parts the loop uses.
        name: The camera's name.
        config: The camera's configuration.
        model: The model that judges its frames.
        report: Takes every verdict.
    """
    own = station.config.station.name
    log = PictureLog(station.results.outbox, name, locate(config).source)
    waits = not is_live(locate(config))
    capture = CaptureProcess(name, config, remembered(log, config) if waits else None)
    threshold = partial(station.labelling.threshold, name, model)
    judge = FrameJudge(own, name, config, model.switch, live=capture.live, threshold=threshold)
    pictures = None
    if waits:
        pictures = PictureQueue(config, capture, judge, model.switch, log, station=own, camera=name)
    return CameraLoop(name, config, capture, judge, report, pictures)


class StationSite:
    """Implements `teaching.Site` for a running station.

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
        return self._station.board.of(camera).picture.frame

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


STOP_S = 4.5
"""All parts together have so long to end."""
_PIPELINE_S = 6.0
"""A pipeline that hangs may take this much longer, so that its sensor is given back."""

_LAST_ANSWER_S = 0.2
"""For the answer of a frame whose engine had to be stopped."""

_CALM = ("ok", "starting", "removed")
log = logging.getLogger(__name__)


class Station:
    """Owns every part; the parts know nothing of each other.

    Args:
        config: Checked.
        models: Root of the model store; None takes the device's.

    Raises:
        ConfigError: A secret can't be read, or the store has no such model.
        ModelFileError: The model file can't be used.
        StoreError: Another station uses the state folder.
    """

    def __init__(self, config: Config, models: Path | None = None) -> None:
        _refuse_commands(config)
        self._files: Mapping[Key, str] = fingerprints(config)
        self._lock = _locked(config.station.state)
        self.config = config
        self.started_at_s, self._started = time.time(), time.monotonic()
        self.configuration_problem: str | None = None
        self.board, self.recent = CameraBoards(), RecentEvents()
        self.control = StationControl(self)
        self.metrics = Metrics(self.control.overview)
        audited = partial(switching, self.control, "activate", FILES)
        self.models = StationModels(config, self._tell_model, models, audited, self._begin)
        self.results = EventDelivery(config, self._files, self._commanded)
        self.labelling = Labelling(self, LabelDatabase(config.station.state / LABELS))
        self.shadows = Shadows(self)
        self.models.beside, self.models.give_way = self.shadows.room, self.shadows.give_way
        self.evidence = EvidenceStore(
            config.station.state / "evidence", config.evidence, self.labelling.store.ids
        )
        self.parts = PartLog(self.results.outbox)
        self.reporter = Reporter(
            self.results.outbox,
            self.evidence,
            self.board,
            self.recent,
            self.metrics,
            self._same_part_s,
        )
        self.reporter.decision = config.decision
        self.teaching = Teaching(StationSite(self))
        self.cameras: dict[str, CameraLoop] = {}
        self._changing, self._stopping = threading.Lock(), False

    @property
    def uptime_s(self) -> float:
        """Seconds since the start, by the monotonic clock."""
        return time.monotonic() - self._started

    def start(self) -> None:
        """Starts everything; waits for no camera, broker or engine."""
        self.results.start()
        self.evidence.start()
        self.models.start()
        self.teaching.start()
        for name, camera in self.config.camera.items():
            self._open(name, camera)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops everything within the time, whatever hangs: cameras, engine, results.

        A frame that is under way is judged to the end, or is answered with `stopped` where the
        engine takes too long.
        """
        self._stopping, until = True, time.monotonic() + timeout_s
        self._stop_cameras(0.4 * timeout_s)
        self.shadows.stop_all(_LAST_ANSWER_S)
        self.teaching.stop(0.1 * timeout_s)
        self.models.stop(0.2 * timeout_s)
        self._stop_cameras(_LAST_ANSWER_S)
        self.evidence.stop(max(0.2, (until - time.monotonic()) / 2))
        self.results.stop(max(0.2, until - time.monotonic()))
        self._stop_cameras(_PIPELINE_S)
        self.labelling.book.close()
        if self._lock is not None:
            self._lock.close()

    def _stop_cameras(self, timeout_s: float) -> None:
        with ThreadPoolExecutor(max_workers=len(self.cameras) or 1) as pool:
            for loop in self.cameras.values():
                pool.submit(loop.stop, timeout_s)

    def ask(self, camera: str, part: str | None, trigger: Trigger, sender: str) -> TriggerCommand:
        """Asks a camera for a verdict on the part before it; see `CameraLoop.ask`.

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

    def states(self) -> dict[str, State]:
        """Returns the state of every component, by its name."""
        return states_of(self)

    def live(self) -> bool:
        """Returns whether every stage goes on: what hangs or has died asks for a restart."""
        return goes_on(self)

    def inspecting(self, states: Mapping[str, State]) -> list[str]:
        """Returns the cameras whose parts get verdicts now."""
        return inspecting(self, states)

    def tell(self, event: StateEvent) -> None:
        """Sends a change of state, and writes it to the log."""
        why = f" ({event.reason})" if event.reason else ""
        level = logging.INFO if event.state in _CALM else logging.WARNING
        log.log(level, "%s: %s%s", event.component, event.state, why)
        if event.state not in _CALM:
            self.metrics.fault(event.component, event.state)
        self.results.add(event)

    def prepare(self, new: Config) -> Renewal:
        """Reads and checks what another configuration needs, secrets among it; touches nothing.

        Raises:
            ConfigError: A part of it can't be used.
            ModelFileError: A model file of it can't be used.
        """
        _refuse_commands(new)
        files = fingerprints(new)
        changes = differences(self.config, new, self._files, files)
        sinks, models = self.results.prepare(new, files), self.models.prepare(new)
        return Renewal(new, files, changes, sinks, models)

    def reconfigure(self, renewal: Renewal) -> None:
        """Changes to another configuration; only what is different in it is touched."""
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
            for model in unused:
                model.stop()
        self.shadows.review()
        self.teaching.renew()
        renewal.tell(self.control.audit, old)

    def _other(self, camera: str, new: Config, model: StationModel | None) -> bool:
        """Whether a camera must be opened anew; another threshold is no reason."""
        config, own = new.camera.get(camera), {"model": None}
        if config is None or self.models.of(camera) is not model:
            return True
        before = self.config.camera[camera]
        return before.model_copy(update=own) != config.model_copy(update=own)

    def _open(self, name: str, config: CameraConfig) -> None:
        model = self.models.of(name)
        assert model is not None, "every camera of a configuration has one"
        loop = camera_loop(self, name, config, model, self._report)
        model.callers.add(name, loop.lies_there)
        self.reporter.alarms.begin(name)
        loop.start()
        self.cameras = {**self.cameras, name: loop}

    def _report(self, judged: JudgedFrame) -> InspectionEvent:
        """Reports a verdict; then a trial and teaching get the frame."""
        event = self.reporter.report(judged)
        self.shadows.offer(judged)
        if judged.frame is not None:
            self.teaching.offer(event.camera, judged.frame)
        return event

    def _close(self, names: list[str]) -> None:
        """Stops cameras, all at once: one that hangs takes its two seconds."""
        closed = [self.cameras[name] for name in names]
        self.cameras = {name: loop for name, loop in self.cameras.items() if name not in names}
        with ThreadPoolExecutor(max_workers=max(1, len(closed))) as pool:
            for loop in closed:
                pool.submit(loop.stop)
        for name in names:
            self.board.forget(name)
            for model in self.models:
                model.callers.remove(name)

    def _begin(self, model: StationModel) -> None:
        """Opens folders and videos again: the first model judges what was only shown before."""
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

    def _same_part_s(self, camera: str) -> float:
        config = self.config.camera.get(camera)
        return 0.0 if config is None else config.same_part_s

    def _commanded(self, camera: str, part: str | None) -> None:
        try:
            self.ask(camera, part, "mqtt", "mqtt")
        except CameraError as error:
            if camera in self.cameras:  # somebody waits for a verdict on that part
                self.cameras[camera].refuse(part, "mqtt", str(error))
            raise

    def _tell_model(self, component: str, state: str, reason: str) -> None:
        station = self.config.station.name
        self.tell(StateEvent(station=station, component=component, state=state, reason=reason))
        self.shadows.review()


def _locked(state: Path) -> IO[str] | None:
    """Takes the state folder; one that can't be written holds no inspection up."""
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
